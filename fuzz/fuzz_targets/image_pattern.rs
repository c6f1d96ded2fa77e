//! Image patterns, a line of each: what a pattern covers, the same text as a key covers too, and what is suggested is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullcred::image::{Credential, DockerConfig, ImagePattern, ImageReference, Keyring, pattern_near_miss};

fuzz_target!(|text: &str| {
    let (pattern, image) = text.split_once('\n').unwrap_or((text, "a.io/team/app"));
    let parsed = match ImagePattern::parse(pattern) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.instead().is_none_or(|instead| ImagePattern::parse(instead).is_ok()), "{error}");
            return;
        }
    };
    assert_eq!(parsed.as_str(), pattern);
    let Ok(image) = ImageReference::parse(image) else { return };
    let key: DockerConfig = [(pattern.to_owned(), Credential::new("u", "p"))].into_iter().collect();
    let mut keyring = Keyring::default();
    keyring.add(&key);
    if parsed.covers(&image) {
        assert_eq!(keyring.lookup(&image).len(), 1, "the key covers what the pattern does");
        assert_eq!(key.slice(&[parsed]), key, "and is kept for it");
    } else {
        let _ = pattern_near_miss(&parsed, &image);
    }
});
