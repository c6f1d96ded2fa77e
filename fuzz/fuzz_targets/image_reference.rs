//! Image references: what is read is whole, and reads as itself once it is normalised.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullcred::image::ImageReference;

fuzz_target!(|text: &str| {
    let Ok(image) = ImageReference::parse(text) else { return };
    assert!(!image.repository().is_empty());
    assert!(image.tag().is_some() || image.digest().is_some());
    assert_eq!(image.segments().collect::<Vec<_>>().join("/"), image.repository());
    // A first part that only looks like a registry stays without one, and gets another when it is read again.
    if !image.registry().is_empty() {
        let normalised = image.to_string();
        let again = ImageReference::parse(&normalised).expect("a normalised reference is one");
        assert_eq!((again.name(), again.tag(), again.digest()), (image.name(), image.tag(), image.digest()));
    }
});
