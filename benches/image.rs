//! How long the image room takes: lookups in docker configs, and parsing and slicing them, at three sizes each, so that anything
//! quadratic shows.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pullcred::image::{DockerConfig, ImagePattern, ImageReference, Keyring, SecretType};

/// A docker config of so many entries of different registries.
fn config(entries: usize) -> String {
    let auths: serde_json::Map<String, serde_json::Value> = (0..entries)
        .map(|n| {
            let key = match n % 4 {
                0 => format!("https://registry-{n}.example.com/v1/"),
                1 => format!("*.region-{n}.example.com"),
                2 => format!("registry-{n}.example.com:5000/team/project"),
                _ => format!("europe-docker.pkg.dev/project-{n}"),
            };
            (key, serde_json::json!({"username": "robot", "auth": "cm9ib3Q6MDEyMzQ1Njc4OWFiY2RlZg=="}))
        })
        .collect();
    serde_json::json!({ "auths": auths }).to_string()
}

fn parse(text: &str) -> DockerConfig {
    DockerConfig::parse(SecretType::DockerConfigJson, text.as_bytes()).unwrap_or_default()
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for entries in [100, 1_000, 10_000] {
        let mut keyring = Keyring::default();
        keyring.add(&parse(&config(entries)));
        group.throughput(Throughput::Elements(entries as u64));
        for (name, image) in
            [("one covers", "europe-docker.pkg.dev/project-3/app:1"), ("none covers", "other.example.com/app")]
        {
            let Ok(image) = ImageReference::parse(image) else { continue };
            assert_eq!(keyring.lookup(&image).len(), usize::from(name == "one covers"));
            group.bench_function(BenchmarkId::new(name, entries), |b| {
                b.iter(|| keyring.lookup(black_box(&image)).len());
            });
        }
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    // About 100 bytes an entry: 1 MiB is the most that a Secret holds.
    for (name, entries) in [("256 KiB", 2_700), ("1 MiB", 10_800), ("4 MiB", 43_000)] {
        let text = config(entries);
        assert_eq!(parse(&text).entries().count(), entries);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| parse(black_box(&text))));
    }
    // One value as large as all those, in one piece and nested.
    let long = format!(r#"{{"auths":{{"a.io":{{"password":"{}"}}}}}}"#, "p".repeat(1 << 20));
    group.throughput(Throughput::Bytes(long.len() as u64));
    group.bench_function("1 MiB in one password", |b| b.iter(|| parse(black_box(&long))));
    let nested = format!(r#"{{"x":[{}{}],"auths":{{}}}}"#, "[".repeat(9_000), "]".repeat(9_000));
    group.throughput(Throughput::Bytes(nested.len() as u64));
    group.bench_function("9,000 deep", |b| b.iter(|| parse(black_box(&nested))));
    group.finish();
}

fn slice(c: &mut Criterion) {
    let mut group = c.benchmark_group("slice");
    let texts = ["*.pkg.dev/project-3", "registry-4.example.com", "*-x.*.example.com"];
    let patterns: Vec<ImagePattern> = texts.iter().filter_map(|text| ImagePattern::parse(text).ok()).collect();
    for entries in [100, 1_000, 10_000] {
        let config = parse(&config(entries));
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(BenchmarkId::from_parameter(entries), |b| b.iter(|| config.slice(black_box(&patterns))));
    }
    group.finish();
}

criterion_group!(benches, lookup, read, slice);
criterion_main!(benches);
