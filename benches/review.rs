//! How long a review takes, from bytes to bytes: the two that a real API server sent, against rule sets of three sizes.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pullcred::admission::{Answer, NamespaceLabels, answer};
use pullcred::rules::{Labels, RuleSet, SourceFile, read_documents};

const REVIEWS: [(&str, &[u8]); 2] =
    [("2.7 KB", include_bytes!("data/review-small.json")), ("12 KB", include_bytes!("data/review-large.json"))];

/// Every namespace is known, and has no labels but its name.
struct Known;

impl NamespaceLabels for Known {
    fn labels(&self, _namespace: &str) -> Option<&Labels> {
        static NONE: Labels = Labels::new();
        Some(&NONE)
    }
}

/// So many rules, one of which covers the images of the reviews; the hosts of the others are theirs alone.
fn rules(count: usize, host: impl Fn(usize) -> String) -> RuleSet {
    let rule = |name: &str, host: &str| {
        format!(
            "apiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {{name: {name}}}\n\
             spec: {{images: [\"{host}\"], namespaceSelector: {{}}}}\n---\n"
        )
    };
    let others = (1..count).map(|n| rule(&format!("rule-{n}"), &host(n)));
    let text: String = others.chain([rule("regcred", "asia.gcr.io/my-project")]).collect();
    match read_documents(&[SourceFile { name: "rules", text: text.as_bytes() }]) {
        Ok(documents) => RuleSet::compile(documents.rules),
        Err(findings) => unreachable!("{findings:?}"),
    }
}

fn review(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode, decide, encode");
    let exact = |n: usize| format!("registry-{n}.example.com/team");
    let globs = |n: usize| format!("*-{n}.registry.example.com");
    let sets = [
        ("1 rule", rules(1, exact)),
        ("100 rules", rules(100, exact)),
        ("10,000 rules", rules(10_000, exact)),
        ("100 rules with globs", rules(100, globs)),
    ];
    for (size, body) in REVIEWS {
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (name, set) in &sets {
            let injects =
                |answer: &Answer<'_>| matches!(answer, Answer::Review { decision, .. } if decision.added == 1);
            assert!(injects(&answer(body, set, &Known)), "{size}, {name}: nothing is injected");
            group.bench_function(BenchmarkId::new(size, name), |b| {
                b.iter(|| black_box(answer(black_box(body), set, &Known)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, review);
criterion_main!(benches);
