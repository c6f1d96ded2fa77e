//! Docker configs of both types: what is read is written and read again the same, a slice answers as the whole, and nothing of
//! it prints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullcred::image::{Credential, DockerConfig, ImagePattern, ImageReference, Keyring, SecretType, key_near_miss};

const IMAGES: [&str; 5] = ["nginx", "a.io/team/app", "a.b.io/x", "localhost:5000/app", "A/x"];

fn tried(config: &DockerConfig, image: &ImageReference<'_>) -> Vec<(String, Credential)> {
    let mut keyring = Keyring::default();
    keyring.add(config);
    keyring.lookup(image).into_iter().map(|entry| (entry.key.clone(), entry.credential.clone())).collect()
}

fuzz_target!(|data: &[u8]| {
    for kind in [SecretType::DockerConfigJson, SecretType::DockerCfg] {
        let Ok(config) = DockerConfig::parse(kind, data) else { continue };
        let written = config.to_json();
        let again = DockerConfig::parse(SecretType::DockerConfigJson, written.expose().as_bytes());
        assert_eq!(again.as_ref(), Ok(&config));
        let filled = |(key, found): (&str, &Credential)| (!found.is_empty()).then(|| (key.to_owned(), found.clone()));
        let filled: DockerConfig = config.entries().filter_map(filled).collect();
        for text in IMAGES {
            let image = ImageReference::parse(text).expect("an image");
            let pattern = image.name();
            let pattern = ImagePattern::parse(&pattern).or_else(|_| ImagePattern::parse(image.registry()));
            if let Ok(pattern) = pattern
                && pattern.covers(&image)
            {
                assert_eq!(tried(&config.slice(&[pattern]), &image), tried(&filled, &image));
            }
            for (key, _) in config.entries() {
                let _ = key_near_miss(key, &image);
            }
        }
        let printed = format!("{config:?}{written:?}");
        for (_, credential) in config.entries().filter(|(_, credential)| credential.password().len() > 12) {
            let in_a_key = config.entries().any(|(key, _)| key.contains(credential.password()));
            assert!(in_a_key || !printed.contains(credential.password()));
        }
    }
});
