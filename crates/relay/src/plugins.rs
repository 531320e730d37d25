//! Plugins, as the service's hooks and in the status.

use crate::config::Config;
use crate::service::{Hooks, NoHooks};
use qpc_plugin_host::{Event, Hook, LoadError, Message, Plugins, Rejection};
use serde_json::{Map, Value};
use std::rc::Rc;
use std::time::Instant;

/// The plugins, if any are configured.
#[derive(Clone, Default)]
pub(crate) struct LoadedPlugins(Option<Rc<Plugins>>);

impl LoadedPlugins {
    /// Loads them. The process must have one thread, and its signals blocked: plugins may start threads.
    pub(crate) fn load(config: &Config) -> Result<Self, (String, LoadError)> {
        if config.plugins.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(Some(Rc::new(Plugins::load(&config.plugins, config.plugin_time)?))))
    }

    /// Them as hooks.
    pub(crate) fn hooks(&self) -> Box<dyn Hooks> {
        match self.0.clone() {
            Some(plugins) => Box::new(Watched(plugins)),
            None => Box::new(NoHooks),
        }
    }

    /// When to look at them next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref()?.deadline()
    }

    /// Disables one that takes too long.
    pub(crate) fn watch(&self, now: Instant) {
        if let Some(plugins) = &self.0 {
            plugins.watch(now);
        }
    }

    /// The relay is going down.
    pub(crate) fn shut_down(&self) {
        if let Some(plugins) = &self.0 {
            plugins.shut_down();
        }
    }

    /// How they are, by their names.
    pub(crate) fn status(&self) -> Value {
        let mut all = Map::new();
        for plugin in self.0.iter().flat_map(|plugins| plugins.status()) {
            let mut hooks = Map::new();
            for (hook, time) in plugin.hooks {
                let times = [("calls", time.calls), ("total_us", time.total_us), ("max_us", time.max_us)];
                hooks.insert(hook.name().to_owned(), object(times.map(|(name, value)| (name, value.into()))));
            }
            let mut about = vec![
                ("path", plugin.path.to_string_lossy().into()),
                ("state", plugin.state.into()),
                ("hooks", Value::Object(hooks)),
            ];
            if !plugin.problem.is_empty() {
                about.push(("problem", plugin.problem.into()));
            }
            all.insert(plugin.name, object(about));
        }
        Value::Object(all)
    }

    /// Events that they were too slow for.
    pub(crate) fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |plugins| plugins.lost())
    }
}

struct Watched(Rc<Plugins>);

impl Hooks for Watched {
    fn want(&self, hook: Hook) -> bool {
        self.0.want(hook)
    }

    fn ask(&self, messages: Vec<Message>) -> Result<(), Rejection> {
        self.0.ask(messages)
    }

    fn tell(&self, event: Event) {
        self.0.tell(event);
    }
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        object.insert(name.to_owned(), value);
    }
    Value::Object(object)
}
