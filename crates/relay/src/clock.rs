//! The two clocks: one that only goes forward, for every timer, and one that tells the date, where it can be believed.

use crate::service::Now;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// No clock that is right shows a time before this: 2026-01-01, or the date of the sources.
const BUILT: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(seconds) => seconds,
        Err(_) => 1_767_225_600,
    },
    None => 1_767_225_600,
};

/// The clocks of this machine.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    confirmation: Option<PathBuf>,
}

impl Clock {
    /// Begins to count. With a `confirmation` the date is believed only while that file exists: routers have no clock
    /// that runs while they are off, and there the script that is told of a successful NTP query makes the file, on
    /// a file system that a reboot empties.
    pub(crate) fn new(confirmation: Option<PathBuf>) -> Self {
        Self { start: Instant::now(), confirmation }
    }

    /// Both clocks. The date is read anew each time, so that a wrong one is forgotten as soon as it is corrected.
    pub(crate) fn now(&self) -> Now {
        let confirmed = self.confirmation.as_ref().is_none_or(|file| file.exists());
        let wall = confirmed.then(unix_time).flatten().filter(|&seconds| seconds >= BUILT);
        Now { uptime: self.start.elapsed(), wall }
    }
}

fn unix_time() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_believed_once_it_is_confirmed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ntp");
        let clock = Clock::new(Some(file.clone()));
        assert_eq!(clock.now().wall, None);
        std::fs::write(&file, "").unwrap();
        assert!(clock.now().wall.is_some_and(|seconds| seconds >= BUILT));
    }
}
