//! How often a review allocates: a number, so that a copy too many shows at once.

use pullcred::admission::{Answer, answer};
use pullcred::rules::{RuleSet, SourceFile, read_documents};

use super::injects::{known, pod, review};

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

/// What a stranger may send: a body of whatever takes the most memory. Its bytes are set aside before it is read; what is
/// made of them must stay within as much again, or the bound of memory in docs/webhook.md does not hold.
#[test]
fn a_hostile_review_takes_no_more_than_its_own_size() {
    const BODY: usize = 2 << 20;
    let rules = rules(100);
    let namespaces = known(&[("default", &[])]);
    let many = |item: &str| vec![item; (BODY - 1000) / (item.len() + 1)].join(",");
    let text = |what: &str| what.repeat((BODY - 1000) / what.len());
    let whole = serde_json::to_string(&review(&pod(&["IMAGE"]))).unwrap();
    let spec = |list: &str| whole.replace(r#""spec":{"#, &format!(r#""spec":{{{list},"#));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("members", format!(r"{{{}}}", many(r#""a":1"#)).into()),
        ("members of the request", format!(r#"{{"request":{{"uid":"u",{}}}}}"#, many(r#""a":1"#)).into()),
        ("images", spec(&format!(r#""initContainers":[{}]"#, many(r#"{"image":"a"}"#))).into()),
        ("images with escapes", spec(&format!(r#""initContainers":[{}]"#, many(r#"{"image":"\u0061"}"#))).into()),
        ("volumes", spec(&format!(r#""volumes":[{}]"#, many(r#"{"image":{"reference":"a"}}"#))).into()),
        ("pull secrets", spec(&format!(r#""imagePullSecrets":[{}]"#, many(r#"{"name":"a"}"#))).into()),
        (
            "annotations",
            whole
                .replace(r#""metadata":{"#, &format!(r#""metadata":{{"annotations":{{{}}},"#, many(r#""a":"""#)))
                .into(),
        ),
        ("one image", whole.replace("IMAGE", &text("a")).into()),
        ("one image that prints long", whole.replace("IMAGE", &text("\u{feff}")).into()),
        ("one image of escapes", whole.replace("IMAGE", &text(r"\n")).into()),
        ("a stem", whole.replace(r#""name":"app""#, &format!(r#""generateName":"\n{}""#, text("a"))).into()),
        ("a namespace", whole.replace(r#""team""#, &format!(r#""{}""#, text("a"))).into()),
        ("a uid", whole.replace("705ab4f5-6393-11e8-b7cc-42010a800002", &text("a")).into()),
        ("a key", whole.replace(r#""spec":{"#, &format!(r#""spec":{{"{}":1,"#, text(r"\n"))).into()),
        (
            "depth",
            whole
                .replace(
                    r#""spec":{"#,
                    &format!(r#""spec":{{"x":{}{},"#, "[".repeat(BODY / 2 - 500), "]".repeat(BODY / 2 - 500)),
                )
                .into(),
        ),
        (
            "what is no Unicode",
            [br#"{"request":{"uid":"u","namespace":""#.as_slice(), &vec![0xff; BODY - 1000], b"\"}}"].concat(),
        ),
    ];
    for (what, body) in bodies {
        assert!((BODY / 2..=BODY).contains(&body.len()), "{what}: {} bytes", body.len());
        let counted = allocation_counter::measure(|| drop(answer(&body, &rules, &namespaces)));
        assert!(counted.bytes_max <= BODY as u64 + (1 << 20), "{what}: {} bytes at once", counted.bytes_max);
    }
}
