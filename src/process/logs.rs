//! Where log lines go and how they look, and lines whose rate is bounded.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What libraries may say unless a person asks for more: they repeat what we say better, or every few seconds.
const LIBRARIES: &str = "kube=error,kube_client=error,kube_client::client::builder=off,kube_runtime=error,rustls=error,hyper=warn,tower=warn";

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// What was asked for would be followed as something else, or not at all.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is neither a level ({}) nor directives such as info,pullcred::webhook=debug", .0.escape_debug(), LEVELS.join(", "))]
pub struct NotALevel(String);

/// Sends log lines to standard error: as text where that is a terminal, else as JSON, unless a format is asked for.
/// `level` is a level or directives (`info,pullcred::webhook=debug`).
///
/// # Errors
/// `level` is neither.
pub fn start(format: Option<Format>, level: &str) -> Result<(), NotALevel> {
    let filter = filter(level)?;
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format.unwrap_or(if terminal { Format::Text } else { Format::Json }) {
        Format::Text => builder.with_ansi(colour).init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, NotALevel> {
    // EnvFilter reads a word that it does not know as a target, and all other targets then say nothing.
    let wrong = || NotALevel(level.to_owned());
    if !level.split(',').all(is_directive) {
        return Err(wrong());
    }
    EnvFilter::builder().parse(format!("{LIBRARIES},{level}")).map_err(|_| wrong())
}

/// Whether it is a level, or a target with one. The chart's schema has the same as a pattern.
fn is_directive(text: &str) -> bool {
    let (target, level) = text.split_once('=').map_or((None, text), |(target, level)| (Some(target), level));
    let is_target = |target: &str| {
        !target.is_empty() && target.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_:".contains(letter))
    };
    target.is_none_or(is_target) && LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
}

/// Lines of one kind, of which only so many are said in ten seconds, whatever strangers do. Takes no lock.
#[derive(Debug)]
pub struct Seldom {
    most: u64,
    /// Milliseconds of the wall clock at which the present ten seconds end.
    until: AtomicU64,
    said: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    const WINDOW: Duration = Duration::from_secs(10);

    /// Lines of which at most so many are said in ten seconds.
    pub const fn at_most(most: u64) -> Self {
        Self { most, until: AtomicU64::new(0), said: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// Whether to say one now, and then how many were not said since the last one.
    pub fn now(&self) -> Option<u64> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let until = self.until.load(Ordering::Relaxed);
        let next = now + millis(Self::WINDOW);
        // A wall clock that was put back must not silence us.
        let over = now >= until || next < until;
        if over && self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.said.store(0, Ordering::Relaxed);
        }
        if self.said.fetch_add(1, Ordering::Relaxed) < self.most {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_directives_are_taken_and_nothing_else() {
        for (text, is_taken) in [
            ("info", true),
            ("WARN", true),
            ("off", true),
            ("info,pullcred::webhook=debug", true),
            ("pullcred=Trace,kube_client=off,error", true),
            ("warning", false),
            ("inof", false),
            ("7", false),
            ("3", false),
            ("pullcred=3", false),
            ("", false),
            ("info,", false),
            ("info,,debug", false),
            ("info, debug", false),
            ("info\n", false),
            ("=info", false),
            ("pullcred=", false),
            ("pullcred=loud", false),
            ("pullcred=loud=info", false),
            ("pullcred::webhook", false),
            ("[call]=info", false),
        ] {
            assert_eq!(filter(text).is_ok(), is_taken, "{text}");
        }
    }

    #[test]
    fn so_many_lines_are_said_and_the_rest_is_counted() {
        let line = Seldom::at_most(2);
        assert_eq!((line.now(), line.now()), (Some(0), Some(0)));
        assert_eq!((line.now(), line.now(), line.now()), (None, None, None));
        line.until.store(0, Ordering::Relaxed);
        assert_eq!((line.now(), line.now(), line.now()), (Some(3), Some(0), None));
    }
}
