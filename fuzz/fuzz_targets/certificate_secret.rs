//! Certificate Secrets and a `caBundle` that somebody has changed in any way, at any step of a rotation: left alone they come to rest with
//! a leaf that is valid and that the `caBundle` trusts, and nothing of a key is printed.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use pullcred::pki::rotation::{Content, Decision, Observed, Policy, Seen, Step, next};
use pullcred::pki::{Certificate, trusts};

const KEYS: [&str; 6] = ["tls.crt", "tls.key", "ca.crt", "former.crt", "former.key", "former-leaf-ends"];
const DAY: Duration = Duration::from_secs(24 * 3600);

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
    authority: 365 * DAY,
    leaf: 30 * DAY,
    soak: Duration::from_secs(600),
    names: vec!["pullcred-webhook.pullcred.svc".to_owned()],
});

/// Where every input begins.
static WHOLE: LazyLock<Cluster> = LazyLock::new(|| {
    let mut cluster = Cluster {
        serving: None,
        authorities: None,
        live: Some(vec![]),
        version: 0,
        now: "2026-01-01T00:00:00Z".parse().expect("a moment"),
        uptime: Duration::ZERO,
    };
    cluster.comes_to_rest();
    cluster
});

#[derive(Clone)]
struct Cluster {
    serving: Option<Content>,
    authorities: Option<Content>,
    live: Option<Vec<u8>>,
    version: u32,
    now: Timestamp,
    uptime: Duration,
}

impl Cluster {
    fn step(&mut self, seen: &mut Seen) -> bool {
        let version = self.version.to_string();
        let live = self.live.as_ref().map(|live| (version.as_str(), live.as_slice()));
        seen.configuration(live, true, self.uptime);
        seen.served(self.serving.as_ref(), self.uptime);
        let observed = Observed {
            serving: self.serving.as_ref(),
            live,
            authorities: self.authorities.as_ref(),
            seen,
            uptime: self.uptime,
        };
        let Decision { step, .. } = next(&POLICY, &observed, self.now).expect("certificates can be made");
        let printed = format!("{step:?} {observed:?}");
        assert!(!printed.contains("PRIVATE"), "{printed}");
        match step {
            Step::PutAuthorities(content, _) => self.authorities = Some(content),
            Step::PutServing(content, _) => self.serving = Some(content),
            Step::Announce(pem) => {
                self.live = Some(pem.into_bytes());
                self.version += 1;
            }
            Step::Wait(pause) => {
                assert!(!pause.is_zero());
                return false;
            }
        }
        true
    }

    /// A soak passes, and whatever is due is done.
    fn pass(&mut self, seen: &mut Seen) {
        self.uptime += POLICY.soak;
        let steps = (0..20).take_while(|_| self.step(seen)).count();
        assert!(steps < 20, "it never rests");
    }

    fn comes_to_rest(&mut self) {
        let mut seen = Seen::default();
        for _ in 0..4 {
            self.pass(&mut seen);
        }
        let leaf = Certificate::read_all(&self.serving.as_ref().expect("a Secret").0["tls.crt"]);
        assert!(leaf[0].ends() > self.now && leaf[0].is_for(&POLICY.names));
        if let Some(live) = &self.live {
            assert!(trusts(&Certificate::read_all(live), &leaf));
        }
    }

    fn change(&mut self, which: u8, key: u8, how: u8, bytes: &[u8]) {
        let content = match which % 4 {
            0 => &mut self.serving,
            1 => &mut self.authorities,
            2 => {
                self.live = match (how % 3, self.live.take()) {
                    (0, _) => None,
                    (1, _) => Some(bytes.to_vec()),
                    (_, live) => live.map(|live| [bytes, &live].concat()),
                };
                self.version += 1;
                return;
            }
            _ => {
                // Days pass, and something may be done before they do.
                self.now += DAY * u32::from(key) * 2;
                let mut seen = Seen::default();
                (0..how % 8).for_each(|_| drop(self.step(&mut seen)));
                return;
            }
        };
        let key = KEYS[usize::from(key) % KEYS.len()].to_owned();
        let Some(Content(data)) = content else { return };
        match how % 6 {
            0 => *content = None,
            1 => drop(data.remove(&key)),
            2 => drop(data.insert(key, bytes.to_vec())),
            3 => {
                // One value in the place of another.
                let other = KEYS[bytes.first().map_or(0, |at| usize::from(*at) % KEYS.len())];
                if let Some(value) = data.get(other).cloned() {
                    data.insert(key, value);
                }
            }
            4 => {
                if let Some(value) = data.get_mut(&key) {
                    value.truncate(value.len() * bytes.len() / 256);
                }
            }
            _ => {
                if let Some(value) = data.get_mut(&key) {
                    let at = value.len() * bytes.first().map_or(0, |at| usize::from(*at)) / 256;
                    value.splice(at..at, bytes.iter().copied());
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut cluster = WHOLE.clone();
    let mut rest = data;
    // Time stays where certificates can be written.
    for _ in 0..12 {
        let Some((&[which, key, how, length], tail)) = rest.split_first_chunk() else { break };
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(length)));
        cluster.change(which, key, how, bytes);
        rest = tail;
    }
    cluster.comes_to_rest();
});
