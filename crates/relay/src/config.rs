//! What the relay's owner can set: in a TOML file, by flags of the same names, or both; flags win.

use crate::service::Policy;
use log::LevelFilter;
use qpc_plugin_host::{Plugin, SUPPORTED};
use qpc_proto::message::Registration;
use serde_json::{Map, Value};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where keys and store are.
    pub(crate) data: Option<PathBuf>,
    /// Where to listen; empty for every address.
    pub(crate) listen: Vec<SocketAddr>,
    /// Names and addresses by which clients reach the relay, the one to print first.
    pub(crate) name: Vec<String>,
    /// What is logged.
    pub(crate) log_level: LevelFilter,
    /// What the service is to enforce.
    pub(crate) policy: Policy,
    /// Connections at a time.
    pub(crate) max_connections: usize,
    /// Bytes the store may take on disk.
    pub(crate) disk_bytes: u64,
    /// Bytes of a segment of the store.
    pub(crate) segment_bytes: u32,
    /// Bytes the store may rewrite in a minute to free space.
    pub(crate) compaction_bytes: u32,
    /// What to load, in this order.
    pub(crate) plugins: Vec<Plugin>,
    /// Files and folders that they may read and write while they run.
    pub(crate) plugin_open: Vec<PathBuf>,
    /// How long plugins may hold up the relay.
    pub(crate) plugin_time: Duration,
    /// The file whose existence confirms the clock.
    pub(crate) clock_file: Option<PathBuf>,
    /// Where to write counters for Prometheus.
    pub(crate) metrics_file: Option<PathBuf>,
    /// How often.
    pub(crate) metrics_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: None,
            listen: Vec::new(),
            name: Vec::new(),
            log_level: LevelFilter::Info,
            policy: Policy::default(),
            max_connections: 128,
            disk_bytes: 64 << 20,
            segment_bytes: 256 << 10,
            compaction_bytes: 256 << 10,
            plugins: Vec::new(),
            plugin_open: Vec::new(),
            plugin_time: Duration::from_secs(1),
            clock_file: None,
            metrics_file: None,
            metrics_interval: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Reads a file's text, and collects everything that is wrong with it.
    pub(crate) fn parse(text: &str) -> (Self, Vec<Problem>) {
        let mut config = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| {
                Problem::at(
                    text,
                    error.span().map_or(0, |span| span.start),
                    Fault::Syntax(error.message().to_owned()),
                )
            })
            .collect();
        for (key, value) in table.get_ref() {
            let outcome = match Setting::find(key.get_ref()) {
                None => Err((key.span().start, Fault::Unknown { key: key.get_ref().to_string() })),
                Some(setting) => config.set_toml(setting, value),
            };
            if let Err((offset, fault)) = outcome {
                problems.push(Problem::at(text, offset, fault));
            }
        }
        // What is wrong alone would also look like a contradiction.
        if problems.is_empty() {
            problems.extend(config.contradictions());
        }
        problems.sort_by_key(|problem| problem.line);
        (config, problems)
    }

    /// What is wrong between settings, each of which may be right alone.
    pub(crate) fn contradictions(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.policy.max_bytes >= self.disk_bytes {
            problems.push(Problem { line: None, fault: Fault::DiskTooSmall });
        }
        if u64::from(self.segment_bytes) * 4 > self.disk_bytes {
            problems.push(Problem { line: None, fault: Fault::SegmentTooLarge });
        }
        if !SUPPORTED && !self.plugins.is_empty() {
            problems.push(Problem { line: None, fault: Fault::PluginStatic });
        }
        for (index, plugin) in self.plugins.iter().enumerate() {
            let name = plugin.name();
            if self.plugins[..index].iter().any(|other| other.name() == name) {
                problems.push(Problem { line: None, fault: Fault::PluginTwice { name } });
            }
        }
        problems
    }

    /// Sets one setting, or adds to it if it is a list.
    pub(crate) fn set(&mut self, setting: &Setting, text: &str) -> Result<(), Fault> {
        (setting.set)(self, text).map_err(|value| Fault::Value { key: setting.name, value })
    }

    /// Where to listen: one socket for IPv6 and IPv4 together, unless something else is configured.
    pub(crate) fn listen(&self) -> Vec<SocketAddr> {
        if self.listen.is_empty() {
            return vec![(Ipv6Addr::UNSPECIFIED, qpc_proto::address::DEFAULT_PORT).into()];
        }
        self.listen.clone()
    }

    fn set_toml(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<(), (usize, Fault)> {
        let items = match value.get_ref() {
            DeValue::Array(items) if setting.clear.is_some() => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            if let (PLUGIN, DeValue::Table(table)) = (setting.name, item.get_ref()) {
                self.plugins.push(plugin_table(item, table)?);
                continue;
            }
            let text = scalar(item.get_ref()).ok_or(ValueError::Type);
            let at = |fault| (item.span().start, fault);
            let text = text.map_err(|value| at(Fault::Value { key: setting.name, value }))?;
            self.set(setting, &text).map_err(at)?;
        }
        Ok(())
    }
}

/// A thing that can be set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the file and its flag.
    pub(crate) name: &'static str,
    /// What its value looks like, for the help text.
    pub(crate) value: &'static str,
    /// What it does, for the help text.
    pub(crate) help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), ValueError>,
    /// For lists: forgets what the file said.
    pub(crate) clear: Option<fn(&mut Config)>,
}

impl Setting {
    /// The setting with a name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// Every setting.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "data",
        value: "DIR",
        help: "directory of keys and store",
        set: |config, text| path(text, &mut config.data),
        clear: None,
    },
    Setting {
        name: "listen",
        value: "ADDRESS:PORT",
        help: "where to listen, may be repeated (default [::]:7000, every address)",
        set: |config, text| {
            config.listen.push(text.parse().map_err(|_| ValueError::SocketAddress)?);
            Ok(())
        },
        clear: Some(|config| config.listen.clear()),
    },
    Setting {
        name: "name",
        value: "NAME",
        help: "a name or address by which clients reach the relay, may be repeated; the first is printed",
        set: |config, text| {
            rustls::pki_types::ServerName::try_from(text).map_err(|_| ValueError::Name)?;
            config.name.push(text.to_owned());
            Ok(())
        },
        clear: Some(|config| config.name.clear()),
    },
    Setting {
        name: "registration",
        value: "open|invite|closed",
        help: "how new accounts come to be (default open)",
        set: |config, text| {
            config.policy.registration = match text {
                "open" => Registration::Open,
                "invite" => Registration::Invite,
                "closed" => Registration::Closed,
                _ => return Err(ValueError::Choice("open, invite or closed")),
            };
            Ok(())
        },
        clear: None,
    },
    Setting {
        name: "log-level",
        value: "LEVEL",
        help: "off, error, warn, info, debug or trace (default info)",
        set: |config, text| {
            const LEVELS: ValueError = ValueError::Choice("off, error, warn, info, debug or trace");
            config.log_level = LevelFilter::from_str(text).map_err(|_| LEVELS)?;
            Ok(())
        },
        clear: None,
    },
    Setting {
        name: "max-connections",
        value: "NUMBER",
        help: "connections at a time (default 128)",
        set: |config, text| number(text, 1, 4096, &mut config.max_connections),
        clear: None,
    },
    Setting {
        name: "max-accounts",
        value: "NUMBER",
        help: "accounts (default 1000)",
        set: |config, text| number(text, 1, 100_000, &mut config.policy.max_accounts),
        clear: None,
    },
    Setting {
        name: "max-bytes",
        value: "SIZE",
        help: "bytes of stored messages, like 8M (default 16M)",
        set: |config, text| size(text, 256 << 10, 1 << 40, &mut config.policy.max_bytes),
        clear: None,
    },
    Setting {
        name: "queue-messages",
        value: "NUMBER",
        help: "messages waiting for one device (default 10000)",
        set: |config, text| number(text, 10, 1_000_000, &mut config.policy.queue_messages),
        clear: None,
    },
    Setting {
        name: "queue-bytes",
        value: "SIZE",
        help: "bytes waiting for one device (default 4M)",
        set: |config, text| size(text, 64 << 10, 1 << 32, &mut config.policy.queue_bytes),
        clear: None,
    },
    Setting {
        name: "ttl",
        value: "TIME",
        help: "time a message waits at most, like 12h or 30d (default 30d)",
        set: |config, text| duration(text, 60, 10 * YEAR, &mut config.policy.ttl),
        clear: None,
    },
    Setting {
        name: "device-ttl",
        value: "TIME",
        help: "time after which an unused device is removed (default 90d)",
        set: |config, text| duration(text, DAY, 10 * YEAR, &mut config.policy.device_ttl),
        clear: None,
    },
    Setting {
        name: "invite-ttl",
        value: "TIME",
        help: "time an invite is good for (default 7d)",
        set: |config, text| duration(text, 60, YEAR, &mut config.policy.invite_ttl),
        clear: None,
    },
    Setting {
        name: "disk-bytes",
        value: "SIZE",
        help: "bytes the store may take on disk (default 64M)",
        set: |config, text| size(text, 1 << 20, 1 << 40, &mut config.disk_bytes),
        clear: None,
    },
    Setting {
        name: "segment-bytes",
        value: "SIZE",
        help: "bytes of one file of the store (default 256K)",
        set: |config, text| size(text, 64 << 10, 64 << 20, &mut config.segment_bytes),
        clear: None,
    },
    Setting {
        name: "compaction-bytes",
        value: "SIZE",
        help: "bytes the store may rewrite in a minute to free space (default 256K)",
        set: |config, text| size(text, 16 << 10, 64 << 20, &mut config.compaction_bytes),
        clear: None,
    },
    Setting {
        name: PLUGIN,
        value: "FILE",
        help: "a plugin to load, may be repeated; the first that refuses a message decides (see docs/plugins.md)",
        set: |config, text| {
            let path = plugin_path(text)?;
            config.plugins.push(Plugin { path, required: false, settings: None });
            Ok(())
        },
        clear: Some(|config| config.plugins.clear()),
    },
    Setting {
        name: "plugin-open",
        value: "PATH",
        help: "a file or folder that plugins may open while they run, may be repeated",
        set: |config, text| {
            config.plugin_open.push(plugin_path(text)?);
            Ok(())
        },
        clear: Some(|config| config.plugin_open.clear()),
    },
    Setting {
        name: "plugin-time",
        value: "TIME",
        help: "how long plugins may hold up the relay for one message (default 1s)",
        set: |config, text| {
            config.plugin_time = short_time(text).ok_or(SHORT_TIME)?;
            Ok(())
        },
        clear: None,
    },
    Setting {
        name: "clock-file",
        value: "FILE",
        help: "believe the clock only while this file exists (default: always, from the program's date on)",
        set: |config, text| path(text, &mut config.clock_file),
        clear: None,
    },
    Setting {
        name: "metrics-file",
        value: "FILE",
        help: "write counters there in Prometheus's text format (default: nowhere)",
        set: |config, text| path(text, &mut config.metrics_file),
        clear: None,
    },
    Setting {
        name: "metrics-interval",
        value: "TIME",
        help: "how often (default 1m)",
        set: |config, text| {
            let mut seconds = 0u64;
            duration(text, 1, DAY, &mut seconds)?;
            config.metrics_interval = Duration::from_secs(seconds);
            Ok(())
        },
        clear: None,
    },
];

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    /// The line it is in, from 1; `None` if it is in no single one.
    pub(crate) line: Option<usize>,
    /// What is wrong.
    pub(crate) fault: Fault,
}

impl Problem {
    fn at(text: &str, offset: usize, fault: Fault) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        Self { line: Some(before.iter().filter(|&&byte| byte == b'\n').count() + 1), fault }
    }
}

/// What can be wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("disk-bytes must be larger than max-bytes: the store needs room to work in")]
    DiskTooSmall,
    #[error("plugin: this relay is linked statically and cannot load plugins")]
    PluginStatic,
    #[error("plugin: two plugins are called '{name}'; a plugin is called by the name of its file")]
    PluginTwice { name: String },
    #[error("disk-bytes must hold at least four segments of segment-bytes")]
    SegmentTooLarge,
    #[error("{0}")]
    Syntax(String),
    #[error("unknown setting '{key}'; `qpc-relay --help` lists them all")]
    Unknown { key: String },
    #[error("{key}: {value}")]
    Value { key: &'static str, value: ValueError },
}

/// What can be wrong with a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("must be {0}")]
    Choice(&'static str),
    #[error("must be a time like 90s, 15m, 12h or 30d")]
    Duration,
    #[error("must not be empty")]
    Empty,
    #[error("must be a host name or an IP address")]
    Name,
    #[error("must be a whole number")]
    Number,
    #[error("must be from {} to {}", Scaled(*.min, *.unit), Scaled(*.max, *.unit))]
    Range { min: u64, max: u64, unit: Unit },
    #[error("must be a size like 65536, 512K or 16M")]
    Size,
    #[error("must be an IP address with a port, like 192.168.1.1:7000 or [::]:7000")]
    SocketAddress,
    #[error("has a value of the wrong type")]
    Type,
    #[error("has path, required and config, and no other keys")]
    PluginKeys,
    #[error("config must be a table, or a JSON object as text")]
    PluginSettings,
}

/// How a number reads best.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Bytes,
    None,
    Seconds,
}

struct Scaled(u64, Unit);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scales: &[(u64, &str)] = match self.1 {
            Unit::Bytes => &[(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")],
            Unit::None => &[],
            Unit::Seconds => &[(DAY, "d"), (60 * 60, "h"), (60, "m"), (1, "s")],
        };
        match scales.iter().find(|(scale, _)| self.0.is_multiple_of(*scale)) {
            Some((scale, suffix)) => write!(f, "{}{suffix}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

fn path(text: &str, out: &mut Option<PathBuf>) -> Result<(), ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    *out = Some(text.into());
    Ok(())
}

fn number<T: TryFrom<u64>>(text: &str, min: u64, max: u64, out: &mut T) -> Result<(), ValueError> {
    let number = text.parse().map_err(|_| ValueError::Number)?;
    within(number, min, max, Unit::None, out)
}

fn size<T: TryFrom<u64>>(text: &str, min: u64, max: u64, out: &mut T) -> Result<(), ValueError> {
    let number = scaled(text, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)]).ok_or(ValueError::Size)?;
    within(number, min, max, Unit::Bytes, out)
}

fn duration<T: TryFrom<u64>>(text: &str, min: u64, max: u64, out: &mut T) -> Result<(), ValueError> {
    let number =
        scaled(text, &[("s", 1), ("m", 60), ("h", 60 * 60), ("d", DAY)]).ok_or(ValueError::Duration)?;
    within(number, min, max, Unit::Seconds, out)
}

fn within<T: TryFrom<u64>>(
    number: u64,
    min: u64,
    max: u64,
    unit: Unit,
    out: &mut T,
) -> Result<(), ValueError> {
    let range = ValueError::Range { min, max, unit };
    if !(min..=max).contains(&number) {
        return Err(range);
    }
    *out = T::try_from(number).map_err(|_| range)?;
    Ok(())
}

fn scaled(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let found = suffixes.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)));
    let (digits, scale) = found.unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

/// A plugin with more to say than its path.
fn plugin_table(item: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Result<Plugin, (usize, Fault)> {
    let fault = |at: usize, value| (at, Fault::Value { key: PLUGIN, value });
    let mut plugin = Plugin { path: PathBuf::new(), required: false, settings: None };
    for (key, value) in table {
        let at = value.span().start;
        match (&**key.get_ref(), value.get_ref()) {
            ("path", DeValue::String(text)) => {
                plugin.path = plugin_path(text).map_err(|value| fault(at, value))?;
            }
            ("required", DeValue::Boolean(required)) => plugin.required = *required,
            ("config", value) => {
                let settings = settings(value).ok_or_else(|| fault(at, ValueError::PluginSettings))?;
                plugin.settings = Some(settings.to_string());
            }
            ("path" | "required", _) => return Err(fault(at, ValueError::Type)),
            _ => return Err(fault(key.span().start, ValueError::PluginKeys)),
        }
    }
    if plugin.path.as_os_str().is_empty() {
        return Err(fault(item.span().start, ValueError::Empty));
    }
    Ok(plugin)
}

/// A plugin's settings, a JSON object.
fn settings(value: &DeValue<'_>) -> Option<Value> {
    let value = match value {
        DeValue::String(text) => serde_json::from_str(text).ok()?,
        value => json_of(value)?,
    };
    value.is_object().then_some(value)
}

fn json_of(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        // By the same parser as JSON's: another one would be 16 KB.
        DeValue::Float(number) => serde_json::from_str(number.as_str()).ok()?,
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json_of(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let mut object = Map::new();
            for (key, value) in table {
                object.insert(key.get_ref().to_string(), json_of(value.get_ref())?);
            }
            Value::Object(object)
        }
    })
}

/// With a slash: for a name without one the dynamic linker searches elsewhere.
fn plugin_path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    Ok(Path::new(".").join(text))
}

fn short_time(text: &str) -> Option<Duration> {
    let time = match text.strip_suffix("ms") {
        Some(digits) => Duration::from_millis(digits.parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s')?.parse().ok()?),
    };
    (Duration::from_millis(10)..=Duration::from_secs(10)).contains(&time).then_some(time)
}

/// The setting that may have tables for values.
const PLUGIN: &str = "plugin";
const SHORT_TIME: ValueError = ValueError::Choice("a time from 10ms to 10s, like 500ms");

const DAY: u64 = 24 * 60 * 60;
const YEAR: u64 = 365 * DAY;

/// Where IPv6 is switched off, the default falls back to this.
pub(crate) fn without_ipv6(address: SocketAddr) -> Option<SocketAddr> {
    (address.ip() == Ipv6Addr::UNSPECIFIED).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = Config::parse(text);
        let line = |line: Option<usize>| line.map_or_else(|| "-".to_owned(), |line| line.to_string());
        problems.iter().map(|problem| format!("{}: {}", line(problem.line), problem.fault)).collect()
    }

    #[test]
    fn every_setting_can_be_set() {
        let (config, problems) = Config::parse(
            r#"
            data = "/srv/qpc"
            listen = ["192.168.1.1:7000", "[::1]:7001"]
            name = "relay.lan"
            registration = "invite"
            log-level = "warn"
            max-connections = 64
            max-accounts = 50
            max-bytes = "4M"
            queue-messages = 1_000
            queue-bytes = 65536
            ttl = "12h"
            device-ttl = "60d"
            invite-ttl = 3600
            disk-bytes = "8M"
            segment-bytes = "128K"
            compaction-bytes = "64K"
            plugin = ["/lib/a.so", { path = "/lib/libb.so", required = true, config = { n = 0x10, "a b" = [1.5, true] } }]
            plugin-open = "/etc/b"
            plugin-time = "500ms"
            clock-file = "/var/run/ntp"
            metrics-file = "/tmp/qpc.prom"
            metrics-interval = "30s"
            "#,
        );
        assert_eq!(problems, []);
        assert_eq!(config.data.as_deref(), Some(Path::new("/srv/qpc")));
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.name, ["relay.lan"]);
        assert_eq!(config.policy.registration, Registration::Invite);
        assert_eq!(config.log_level, LevelFilter::Warn);
        assert_eq!((config.max_connections, config.policy.max_accounts), (64, 50));
        assert_eq!((config.policy.max_bytes, config.disk_bytes), (4 << 20, 8 << 20));
        assert_eq!((config.policy.queue_messages, config.policy.queue_bytes), (1000, 65536));
        assert_eq!((config.policy.ttl, config.policy.device_ttl), (12 * 3600, 60 * DAY));
        assert_eq!(config.policy.invite_ttl, 3600);
        assert_eq!((config.segment_bytes, config.compaction_bytes), (128 << 10, 64 << 10));
        assert_eq!(config.metrics_interval, Duration::from_secs(30));
        assert_eq!(config.plugin_open, [PathBuf::from("/etc/b")]);
        let [a, b] = &config.plugins[..] else { panic!("{:?}", config.plugins) };
        assert_eq!((a.name(), a.required, &a.settings), ("a".into(), false, &None));
        assert_eq!((b.name(), b.required), ("b".into(), true));
        assert_eq!(b.settings.as_deref(), Some(r#"{"a b":[1.5,true],"n":16}"#));
        assert_eq!(config.plugin_time, Duration::from_millis(500));
    }

    #[test]
    fn all_problems_are_told_with_their_lines() {
        assert_eq!(
            problems(
                "data = ''\nlisten = [\n '1.2.3.4:7000',\n 'here']\nport = 7000\nmax-connections = 0\nttl = '3 weeks'\n\
                 registration = true\nmax-bytes = '1K'\nname = 'a b'\n"
            ),
            [
                "1: data: must not be empty",
                "4: listen: must be an IP address with a port, like 192.168.1.1:7000 or [::]:7000",
                "5: unknown setting 'port'; `qpc-relay --help` lists them all",
                "6: max-connections: must be from 1 to 4096",
                "7: ttl: must be a time like 90s, 15m, 12h or 30d",
                "8: registration: has a value of the wrong type",
                "9: max-bytes: must be from 256K to 1024G",
                "10: name: must be a host name or an IP address",
            ]
        );
        assert_eq!(
            problems("plugin = [\n '']\nplugin-time = '1ms'"),
            ["2: plugin: must not be empty", "3: plugin-time: must be a time from 10ms to 10s, like 500ms",]
        );
        assert_eq!(problems("plugin = [{}]"), ["1: plugin: must not be empty"]);
        assert_eq!(problems("plugin = [{path = 7}]"), ["1: plugin: has a value of the wrong type"]);
        assert_eq!(
            problems("[[plugin]]\npath = 'a'\nconfg = {}"),
            ["3: plugin: has path, required and config, and no other keys"]
        );
        for settings in ["'no'", "'[1]'", "7"] {
            assert_eq!(
                problems(&format!("[[plugin]]\npath = 'b'\nconfig = {settings}")),
                ["3: plugin: config must be a table, or a JSON object as text"]
            );
        }
        assert_eq!(
            problems("plugin = ['a/x.so', 'b/libx.so']"),
            ["-: plugin: two plugins are called 'x'; a plugin is called by the name of its file"]
        );
        assert!(problems("data = \"x\"\nlisten = [\n")[0].starts_with("2: "), "{:?}", problems("listen = ["));
        assert_eq!(
            problems("max-bytes = '8M'\ndisk-bytes = '8M'"),
            ["-: disk-bytes must be larger than max-bytes: the store needs room to work in"]
        );
        assert_eq!(
            problems("max-bytes = '2X'\ndisk-bytes = '4M'"),
            ["1: max-bytes: must be a size like 65536, 512K or 16M"]
        );
    }
}
