//! How often a review allocates: a number, so that a copy too many shows at once.

use pullcred::admission::{Answer, answer};
use pullcred::rules::{RuleSet, SourceFile, read_documents};

use super::injects::known;

/// Rules for so many registries; one covers the images of the reviews.
fn rules(count: usize) -> RuleSet {
    let rule = |n: usize| {
        let host = if n == 0 { "asia.gcr.io".to_owned() } else { format!("registry-{n}.example.com/team") };
        format!(
            "apiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {{name: rule-{n}}}\n\
             spec: {{images: [\"{host}\"], namespaceSelector: {{}}}}\n---\n"
        )
    };
    let text: String = (0..count).map(rule).collect();
    RuleSet::compile(read_documents(&[SourceFile { name: "rules", text: text.as_bytes() }]).unwrap().rules)
}

#[test]
fn a_review_allocates_fewer_than_twenty_times_and_no_more_for_more_rules() {
    let namespaces = known(&[("default", &[])]);
    let (few, many) = (rules(100), rules(10_000));
    for (size, body) in [
        ("2.7 KB", &include_bytes!("../../benches/data/review-small.json")[..]),
        ("12 KB", &include_bytes!("../../benches/data/review-large.json")[..]),
    ] {
        let allocated = |rules: &RuleSet| {
            let mut added = 0;
            let counted = allocation_counter::measure(|| {
                if let Answer::Review { decision, .. } = answer(body, rules, &namespaces) {
                    added = decision.added;
                }
            });
            assert_eq!(added, 1, "{size}: the Secret is added");
            counted
        };
        let counted = allocated(&few);

        // 12 and 13 when this was written.
        assert!(counted.count_total < 20, "{size}: {} allocations", counted.count_total);
        assert_eq!(allocated(&many).count_total, counted.count_total, "{size}: flat in the number of rules");
    }
}
