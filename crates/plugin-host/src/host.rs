//! The plugins and their thread.

use crate::event::{Event, Hook, Message};
use crate::library::Table;
use crate::{LoadError, MAX_EVENTS, Plugin, STACK, SUPPORTED, elf, library, trial};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All plugins that are configured, in their order.
pub struct Plugins {
    shared: Arc<Shared>,
    /// How long one hook may take.
    share: Duration,
    wanted: [bool; Hook::ALL.len()],
}

/// Why a message is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The plugins' thread was given no time to run: the machine is busy, and no plugin is to blame.
    #[error("the relay is busy; try again later")]
    Busy,
    /// The plugin is required, and it is disabled.
    #[error("the relay's plugin {0} is disabled; tell the relay's owner")]
    Disabled(String),
    /// The plugin took too long.
    #[error("the relay's plugin {0} did not answer in time")]
    Overrun(String),
    /// The plugin refuses, with a reason, which may be empty.
    #[error("{0}")]
    Refused(String),
}

/// A plugin and how it is.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// `running`, `disabled` or `refused`.
    pub state: &'static str,
    /// What is wrong; empty while it runs.
    pub problem: String,
    /// The time its hooks took, of those it has.
    pub hooks: Vec<(Hook, HookTime)>,
}

/// The time that calls of a hook took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HookTime {
    /// Calls that returned. The recipients of one message are one call.
    pub calls: u64,
    /// Microseconds, all together.
    pub total_us: u64,
    /// Microseconds of the longest.
    pub max_us: u64,
}

struct Shared {
    state: Mutex<State>,
    /// For the plugins' thread: there is work.
    work: Condvar,
    /// For who waits for that thread: a call has returned.
    done: Condvar,
}

struct State {
    entries: Vec<Entry>,
    /// What is to be told, to which plugin.
    events: VecDeque<(usize, Arc<Event>)>,
    /// What somebody waits for; it goes before the events.
    question: Option<(usize, Call)>,
    answer: Option<Result<(), String>>,
    running: Option<Running>,
    /// Which thread serves, and whether it has been started.
    thread: u32,
    serving: bool,
    lost: u64,
    /// It has been said that events are lost; said again only after the queue was empty.
    losing: bool,
}

struct Entry {
    name: String,
    path: PathBuf,
    required: bool,
    condition: Condition,
    times: [HookTime; Hook::ALL.len()],
}

enum Condition {
    Running(Table),
    /// A hook took too long. It has returned since if it is not `stuck`.
    Disabled {
        table: Table,
        stuck: bool,
        why: String,
    },
    Refused(String),
    Destroyed,
}

struct Running {
    plugin: usize,
    hook: Hook,
    since: Instant,
    /// Somebody waits for it.
    asked: bool,
}

#[derive(Clone)]
enum Call {
    Ask(Arc<[Message]>),
    Tell(Arc<Event>),
    ShutDown,
    Destroy,
}

/// What came of a call that was waited for.
enum Outcome {
    Done(Result<(), String>),
    Overrun,
    Starved,
}

impl Plugins {
    /// Tries and loads plugins; to be called while the process has one thread. One that does not work is left out, unless it is required:
    /// then that is the error, with the plugin's name.
    ///
    /// All plugins together may keep the caller of [`Plugins::ask`] waiting for `time`.
    pub fn load(plugins: &[Plugin], time: Duration) -> Result<Self, (String, LoadError)> {
        let mut entries = Vec::with_capacity(plugins.len());
        let mut wanted = [false; Hook::ALL.len()];
        for plugin in plugins {
            let name = plugin.name();
            let condition = match load(plugin) {
                Ok(table) => {
                    log::info!("plugin {name} is loaded");
                    Hook::ALL.into_iter().for_each(|hook| wanted[hook as usize] |= table.has(hook));
                    Condition::Running(table)
                }
                Err(error) if plugin.required => return Err((name, error)),
                Err(error) => {
                    log::error!("plugin {name} is refused: {error}");
                    Condition::Refused(error.to_string())
                }
            };
            let path = plugin.path.clone();
            entries.push(Entry {
                name,
                path,
                required: plugin.required,
                condition,
                times: Default::default(),
            });
        }
        // One more, for the event that may be under way when a question comes.
        let loaded = entries.iter().filter(|entry| entry.table().is_some()).count();
        let share = time / (loaded as u32 + 1);
        let state = State {
            entries,
            events: VecDeque::new(),
            question: None,
            answer: None,
            running: None,
            thread: 0,
            serving: false,
            lost: 0,
            losing: false,
        };
        let shared = Shared { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new() };
        Ok(Self { shared: Arc::new(shared), share, wanted })
    }

    /// Whether any plugin has a hook.
    pub fn want(&self, hook: Hook) -> bool {
        self.wanted[hook as usize]
    }

    /// Asks all plugins in their order whether a message may be stored, until one refuses.
    pub fn ask(&self, messages: Vec<Message>) -> Result<(), Rejection> {
        let messages: Arc<[Message]> = messages.into();
        let mut state = self.shared.lock();
        for index in 0..state.entries.len() {
            let entry = &state.entries[index];
            match &entry.condition {
                Condition::Running(table) if table.has(Hook::MessageEnqueue) => {}
                Condition::Disabled { table, .. } if entry.required && table.has(Hook::MessageEnqueue) => {
                    return Err(Rejection::Disabled(entry.name.clone()));
                }
                _ => continue,
            }
            let outcome;
            (state, outcome) = self.call(state, index, Call::Ask(Arc::clone(&messages)));
            match outcome {
                Outcome::Done(answer) => answer.map_err(Rejection::Refused)?,
                Outcome::Overrun => return Err(Rejection::Overrun(state.entries[index].name.clone())),
                Outcome::Starved => return Err(Rejection::Busy),
            }
        }
        Ok(())
    }

    /// Tells plugins of an event, some time soon.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        let mut state = self.shared.lock();
        let wants =
            |entry: &Entry| matches!(&entry.condition, Condition::Running(table) if table.has(event.hook()));
        let wanting: Vec<usize> = (0..state.entries.len()).filter(|&i| wants(&state.entries[i])).collect();
        if wanting.is_empty() {
            return;
        }
        if state.events.len() + wanting.len() > MAX_EVENTS {
            state.lost += 1;
            if !std::mem::replace(&mut state.losing, true) {
                log::warn!("plugins are too slow: events are lost for them");
            }
            return;
        }
        state.events.extend(wanting.into_iter().map(|index| (index, Arc::clone(&event))));
        self.serve(&mut state);
    }

    /// When [`Plugins::watch`] is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.shared.lock();
        match &state.running {
            Some(running) => Some(running.since + self.share),
            // It will be running soon.
            None if !state.events.is_empty() => Some(Instant::now() + self.share),
            None => None,
        }
    }

    /// Disables a plugin whose hook takes too long.
    pub fn watch(&self, now: Instant) {
        self.shared.overrun(&mut self.shared.lock(), self.share, now);
    }

    /// Calls every plugin's `on_shutdown`.
    pub fn shut_down(&self) {
        self.call_all(Hook::Shutdown, &Call::ShutDown);
    }

    /// How the plugins are, in their order.
    pub fn status(&self) -> Vec<PluginStatus> {
        let state = self.shared.lock();
        let status = |entry: &Entry| {
            let (name, problem) = match &entry.condition {
                Condition::Running(_) | Condition::Destroyed => ("running", String::new()),
                Condition::Disabled { why, .. } => ("disabled", why.clone()),
                Condition::Refused(why) => ("refused", why.clone()),
            };
            let table = match entry.condition {
                Condition::Running(table) | Condition::Disabled { table, .. } => Some(table),
                Condition::Refused(_) | Condition::Destroyed => None,
            };
            let has = |hook: &Hook| table.is_some_and(|table| table.has(*hook));
            let hooks = Hook::ALL.into_iter().filter(has).map(|hook| (hook, entry.times[hook as usize]));
            PluginStatus {
                name: entry.name.clone(),
                path: entry.path.clone(),
                state: name,
                problem,
                hooks: hooks.collect(),
            }
        };
        state.entries.iter().map(status).collect()
    }

    /// Events that were lost, because plugins were too slow.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// One call for each plugin, after the events that wait, as far as the plugins take them in time.
    fn call_all(&self, hook: Hook, call: &Call) {
        let mut state = self.shared.lock();
        let until = Instant::now() + self.share;
        while !(state.events.is_empty() && state.running.is_none()) && Instant::now() < until {
            self.shared.overrun(&mut state, self.share, Instant::now());
            state = self.shared.wait_for_call(state, until);
        }
        state.events.clear();
        for index in 0..state.entries.len() {
            if state.entries[index].table().is_some_and(|table| table.has(hook)) {
                (state, _) = self.call(state, index, call.clone());
            }
        }
    }

    /// Has the plugins' thread make a call, and waits for it.
    fn call<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        index: usize,
        call: Call,
    ) -> (MutexGuard<'a, State>, Outcome) {
        state.answer = None;
        state.question = Some((index, call));
        self.serve(&mut state);
        // Far more than it takes to come to a thread.
        let patience = Instant::now() + 2 * self.share;
        loop {
            if let Some(answer) = state.answer.take() {
                return (state, Outcome::Done(answer));
            }
            let now = Instant::now();
            let overrun = self.shared.overrun(&mut state, self.share, now);
            // Or it was an event's hook, and of the plugin that is asked.
            if overrun || state.entries[index].table().is_none() {
                state.question = None;
                return (state, Outcome::Overrun);
            }
            let until = match &state.running {
                Some(running) => running.since + self.share,
                None => patience,
            };
            if until <= now {
                state.question = None;
                return (state, Outcome::Starved);
            }
            state = self.shared.wait_for_call(state, until);
        }
    }

    fn serve(&self, state: &mut State) {
        self.shared.serve(state);
    }
}

/// Calls every plugin's `destroy`, but not while one of its hooks still runs.
impl Drop for Plugins {
    fn drop(&mut self) {
        self.call_all(Hook::Destroy, &Call::Destroy);
        for entry in &mut self.shared.lock().entries {
            if entry.table().is_some() {
                entry.condition = Condition::Destroyed;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_call<'a>(&self, state: MutexGuard<'a, State>, until: Instant) -> MutexGuard<'a, State> {
        let left = until.saturating_duration_since(Instant::now());
        self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Abandons a hook that takes too long, with its thread. Whether somebody waited for it.
    fn overrun(self: &Arc<Self>, state: &mut State, share: Duration, now: Instant) -> bool {
        let Some(running) = state.running.take_if(|running| running.since + share <= now) else {
            return false;
        };
        let entry = &mut state.entries[running.plugin];
        let why = format!("{} took more than {} ms", running.hook.name(), share.as_millis() as u64);
        log::error!("plugin {} is disabled: {why}", entry.name);
        if let Condition::Running(table) = entry.condition {
            entry.condition = Condition::Disabled { table, stuck: true, why };
        }
        state.thread += 1;
        state.serving = false;
        self.serve(state);
        running.asked
    }

    /// Has a thread do what there is to be done.
    fn serve(self: &Arc<Self>, state: &mut State) {
        if state.events.is_empty() && state.question.is_none() {
            return;
        }
        if !state.serving {
            let (shared, me) = (Arc::clone(self), state.thread);
            let thread = std::thread::Builder::new().name("plugins".into()).stack_size(STACK);
            match thread.spawn(move || shared.run(me)) {
                Ok(_) => state.serving = true,
                // The next one who wants something tries again; who waits finds the machine busy.
                Err(error) => log::error!("no thread for plugins: {error}"),
            }
        }
        self.work.notify_all();
    }

    /// The plugins' thread.
    fn run(&self, me: u32) {
        let mut state = self.lock();
        while state.thread == me {
            let Some((index, table, call, asked)) = state.next() else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (hook, since) = (call.hook(), Instant::now());
            state.running = Some(Running { plugin: index, hook, since, asked });
            drop(state);
            let answer = call.make(table);
            let took = since.elapsed();
            state = self.lock();
            let entry = &mut state.entries[index];
            entry.times[hook as usize].add(took);
            if state.thread != me {
                if let Condition::Disabled { stuck, .. } = &mut state.entries[index].condition {
                    *stuck = false;
                }
                return;
            }
            state.running = None;
            if asked {
                state.answer = Some(answer);
            }
            self.done.notify_all();
        }
    }
}

impl State {
    /// What is to be done next.
    fn next(&mut self) -> Option<(usize, Table, Call, bool)> {
        if let Some((index, call)) = self.question.take() {
            let table = self.entries[index].table()?;
            return Some((index, table, call, true));
        }
        while let Some((index, event)) = self.events.pop_front() {
            if let Condition::Running(table) = self.entries[index].condition {
                return Some((index, table, Call::Tell(event), false));
            }
        }
        self.losing = false;
        None
    }
}

impl Entry {
    /// The table of a plugin that can be called. One that is disabled can be destroyed, once its hook has returned.
    fn table(&self) -> Option<Table> {
        match self.condition {
            Condition::Running(table) | Condition::Disabled { table, stuck: false, .. } => Some(table),
            Condition::Disabled { .. } | Condition::Refused(_) | Condition::Destroyed => None,
        }
    }
}

impl Call {
    fn hook(&self) -> Hook {
        match self {
            Self::Ask(_) => Hook::MessageEnqueue,
            Self::Tell(event) => event.hook(),
            Self::ShutDown => Hook::Shutdown,
            Self::Destroy => Hook::Destroy,
        }
    }

    fn make(&self, table: Table) -> Result<(), String> {
        match self {
            Self::Ask(messages) => return table.ask(messages),
            Self::Tell(event) => table.tell(event),
            Self::ShutDown => table.shut_down(),
            Self::Destroy => table.destroy(),
        }
        Ok(())
    }
}

impl HookTime {
    fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls += 1;
        self.total_us = self.total_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }
}

fn load(plugin: &Plugin) -> Result<Table, LoadError> {
    if !SUPPORTED {
        return Err(LoadError::Static);
    }
    elf::check(&plugin.path)?;
    trial::run(plugin)?;
    library::load(plugin)
}
