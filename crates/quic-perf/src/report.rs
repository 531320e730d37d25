//! What a run gave: a line on standard output, and JSON.

use crate::options::{Backend, Options, congestion_control_name};
use crate::protocol::Counters;
use std::fmt::Write;
use std::time::Duration;

/// What the client measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) client: Counters,
    /// As the server counted.
    pub(crate) server: Counters,
    /// Microseconds of each request.
    pub(crate) latencies: Vec<u32>,
}

/// All that is told of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    options: &'a Options,
    measured: Measured,
    failure: Option<String>,
    elapsed_ms: u64,
    mib_per_s: f64,
    gbit_per_s: f64,
    requests_per_s: f64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options, mut measured: Measured, result: Result<(), String>) -> Self {
        measured.latencies.sort_unstable();
        let elapsed_ms = u64::try_from(measured.elapsed.as_millis()).unwrap_or(u64::MAX);
        let seconds = measured.elapsed.max(Duration::from_millis(1)).as_secs_f64();
        let bytes = (measured.client.bytes_sent + measured.client.bytes_received) as f64;
        Self {
            options,
            failure: result.err(),
            elapsed_ms,
            mib_per_s: bytes / f64::from(1 << 20) / seconds,
            gbit_per_s: bytes * 8.0 / 1e9 / seconds,
            requests_per_s: measured.client.requests_completed as f64 / seconds,
            measured,
        }
    }

    fn status(&self) -> &'static str {
        if self.failure.is_some() { "failed" } else { "ok" }
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let work = &self.options.work;
        format!(
            "status={} mode={} cc={} direction={} throughput_mib/s={:.3} throughput_gbit/s={:.3} requests/s={:.3}",
            self.status(),
            work.mode.name(),
            congestion_control_name(self.options.congestion_control),
            work.direction.name(),
            self.mib_per_s,
            self.gbit_per_s,
            self.requests_per_s,
        )
    }

    /// For programs: the keys in this order.
    pub(crate) fn json(&self) -> String {
        let Self { options, measured, .. } = self;
        let (work, client, server) = (&options.work, &measured.client, &measured.server);
        let backend = match options.backend {
            Backend::Coquic => "tokio",
            Backend::Quinn => "quinn",
        };
        let mut out = String::from("{\n");
        let mut put = |key: &str, value: &dyn std::fmt::Display| {
            let separator = if out.len() == 2 { "" } else { ",\n" };
            // Writing to a string does not fail.
            let _ = write!(out, "{separator}  \"{key}\": {value}");
        };
        put("schema_version", &1);
        put("status", &text(self.status()));
        put("mode", &text(work.mode.name()));
        put("direction", &text(work.direction.name()));
        put("backend", &text(backend));
        put("congestion_control", &text(congestion_control_name(options.congestion_control)));
        put("remote_host", &text(&options.host));
        put("remote_port", &options.port);
        put("alpn", &text(options.alpn.name()));
        put("elapsed_ms", &self.elapsed_ms);
        put("warmup_ms", &work.warmup.as_millis());
        put("bytes_sent", &client.bytes_sent);
        put("bytes_received", &client.bytes_received);
        put(
            "server_counters",
            &format_args!(
                r#"{{"bytes_sent": {}, "bytes_received": {}, "requests_completed": {}}}"#,
                server.bytes_sent, server.bytes_received, server.requests_completed
            ),
        );
        put("requests_completed", &client.requests_completed);
        put("streams", &work.streams);
        put("connections", &work.connections);
        put("requests_in_flight", &work.requests_in_flight);
        put("request_bytes", &work.request_bytes);
        put("response_bytes", &work.response_bytes);
        put("throughput_mib_per_s", &self.mib_per_s);
        put("throughput_gbit_per_s", &self.gbit_per_s);
        put("requests_per_s", &self.requests_per_s);
        let sorted = &measured.latencies[..];
        let sum: u64 = sorted.iter().copied().map(u64::from).sum();
        put(
            "latency",
            &format_args!(
                r#"{{"min_us": {}, "avg_us": {}, "p50_us": {}, "p90_us": {}, "p99_us": {}, "max_us": {}}}"#,
                sorted.first().unwrap_or(&0),
                sum / sorted.len().max(1) as u64,
                percentile(sorted, 50),
                percentile(sorted, 90),
                percentile(sorted, 99),
                sorted.last().unwrap_or(&0),
            ),
        );
        if let Some(reason) = &self.failure {
            put("failure_reason", &text(reason));
        }
        out.push_str("\n}\n");
        out
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

fn text(value: &str) -> serde_json::Value {
    value.into()
}

/// The value at rank `percent` of the number of values, rounded up.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).map_or(0, |place| sorted[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        assert_eq!(percentile(&[], 99), 0);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[1, 2], 50), 1);
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!([50, 90, 99].map(|percent| percentile(&hundred, percent)), [50, 90, 99]);
        let ten: Vec<u32> = (1..=10).collect();
        assert_eq!([50, 90, 99].map(|percent| percentile(&ten, percent)), [5, 9, 10]);
    }

    #[test]
    fn the_keys_are_in_their_order() {
        let options = Options { host: "a\"b".into(), ..Options::default() };
        let measured = Measured {
            elapsed: Duration::from_millis(500),
            client: Counters { bytes_sent: 1 << 20, bytes_received: 3 << 20, requests_completed: 2 },
            latencies: vec![30, 10],
            ..Measured::default()
        };
        let report = Report::new(&options, measured, Err("because".into()));
        let json = report.json();
        let keys: Vec<&str> = json.split('"').filter(|part| json.contains(&format!("\"{part}\":"))).collect();
        let expected = "schema_version status mode direction backend congestion_control remote_host remote_port alpn \
                        elapsed_ms warmup_ms bytes_sent bytes_received server_counters bytes_sent bytes_received \
                        requests_completed requests_completed streams connections requests_in_flight request_bytes \
                        response_bytes throughput_mib_per_s throughput_gbit_per_s requests_per_s latency min_us avg_us \
                        p50_us p90_us p99_us max_us failure_reason";
        assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["remote_host"], "a\"b");
        assert_eq!(json["throughput_mib_per_s"], 8.0);
        assert_eq!(json["requests_per_s"], 4.0);
        assert_eq!(json["latency"]["avg_us"], 20);
        assert_eq!(json["failure_reason"], "because");
        assert_eq!(
            report.line(),
            "status=failed mode=bulk cc=newreno direction=download throughput_mib/s=8.000 \
             throughput_gbit/s=0.067 requests/s=4.000"
        );
    }

    #[test]
    fn no_time_counts_as_a_millisecond() {
        let client = Counters { requests_completed: 3, ..Counters::default() };
        let options = Options::default();
        let report = Report::new(&options, Measured { client, ..Measured::default() }, Ok(()));
        assert!(report.json().contains("\"elapsed_ms\": 0,"));
        assert!(report.json().contains("\"requests_per_s\": 3000"));
        assert_eq!(report.failure(), None);
    }
}
