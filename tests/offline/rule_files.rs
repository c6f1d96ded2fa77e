//! Rules come from files, and everything that is wrong in any of them is said in one go.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, time::Instant};

use proptest::prelude::*;
use pullcred::rules::{Code, Documents, Finding, MAX_FILE_BYTES, SourceFile, read_documents};

const BAD_RULES: [&str; 8] = [
    "api/duration.yaml",
    "api/fields.yaml",
    "api/images.yaml",
    "api/names.yaml",
    "api/selector.yaml",
    "api/source.yaml",
    "files/documents.yaml",
    "files/yaml.yaml",
];

fn bad_rules(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offline/data/bad-rules").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(text: &[u8]) -> Result<Documents, Vec<Finding>> {
    read_documents(&[SourceFile { name: "rules.yaml", text }])
}

/// The findings of one file, each as one line of text.
fn refusals(text: &[u8]) -> Vec<String> {
    read(text).expect_err("this should be refused").iter().map(ToString::to_string).collect()
}

#[test]
fn every_bad_document_is_refused_in_the_words_of_the_table() {
    for name in BAD_RULES {
        let text = bad_rules(name);
        let name = name.rsplit('/').next().unwrap();
        let findings = read_documents(&[SourceFile { name, text: text.as_bytes() }]).unwrap_err();

        // By the lines between which each document stands.
        let mut first_line = 1;
        for document in text.split_inclusive("---\n") {
            let last_line = first_line + u32::try_from(document.lines().count()).unwrap() - 1;
            let expected: Vec<&str> = document
                .lines()
                .filter_map(|line| line.strip_prefix("# "))
                .filter(|line| line.starts_with("PC0"))
                .collect();
            let found: Vec<String> = findings
                .iter()
                .filter(|finding| finding.at.is_some_and(|at| (first_line..=last_line).contains(&at.line)))
                .map(|finding| finding.problem.to_string())
                .collect();
            let sorted = |lines: Vec<String>| lines.into_iter().collect::<BTreeSet<_>>();
            assert_eq!(
                sorted(found),
                sorted(expected.into_iter().map(str::to_owned).collect()),
                "{name}, lines {first_line} to {last_line}:\n{document}"
            );
            first_line = last_line + 1;
        }
    }
}

#[test]
fn the_table_of_bad_documents_has_every_code_of_documents() {
    // A file that nobody could read gives no document to refuse.
    let elsewhere = BTreeSet::from([Code::Unreadable]);
    let found: BTreeSet<Code> = BAD_RULES
        .iter()
        .flat_map(|name| read(bad_rules(name).as_bytes()).unwrap_err())
        .map(|finding| finding.problem.code)
        .collect();
    let of_documents = Code::ALL.iter().copied().filter(|code| code.as_str().starts_with("PC0"));
    let missing: Vec<Code> = of_documents.filter(|code| !found.contains(code) && !elsewhere.contains(code)).collect();
    assert_eq!(missing, []);
}

#[test]
fn a_finding_names_file_line_column_field_and_what_to_write_instead() {
    let text = "\
apiVersion: pullcred.io/v1alpha1
kind: ClusterPullSecret
metadata: {name: regcred}
spec:
  images:
  - asia.gcr.io
  -   https://eu.gcr.io
  namespaceSelector:
    matchLabels: {tier: 1}
  mod: Shadow
";
    assert_eq!(
        refusals(text.as_bytes()),
        [
            "rules.yaml:7:7: PC008 spec.images[1]: `https://eu.gcr.io` has a scheme: write `eu.gcr.io`",
            "rules.yaml:9:25: PC005 spec.namespaceSelector.matchLabels[tier]: `1` is a number to YAML, and text is wanted: \
             write it in quotes",
            "rules.yaml:10:3: PC004 spec.mod: `mod` is not a field of this: did you mean `mode`?",
        ]
    );
}

#[test]
fn all_files_are_read_even_when_the_first_is_broken() {
    let findings = read_documents(&[
        SourceFile { name: "a.yaml", text: b"a: [" },
        SourceFile { name: "b.yaml", text: b"kind: Pod" },
        SourceFile { name: "c.yaml", text: b"\xff" },
    ])
    .unwrap_err();
    let files: Vec<&str> = findings.iter().map(|finding| &*finding.file).collect();
    assert_eq!(files, ["a.yaml", "b.yaml", "c.yaml"]);
}

#[test]
fn a_broken_document_does_not_hide_those_after_it() {
    let found = refusals(b"a: [1, 2\n---\nkind: Pod\n---\nb: {\n---\nkind: Job\n");
    let codes: Vec<&str> = found.iter().filter_map(|finding| finding.split(' ').nth(1)).collect();
    assert_eq!(codes, ["PC002:", "PC007", "PC002:", "PC007"], "{found:#?}");
}

#[test]
fn one_name_in_two_files_is_refused_with_both_places() {
    let text = rule("regcred");
    let findings = read_documents(&[
        SourceFile { name: "a.yaml", text: text.as_bytes() },
        SourceFile { name: "b.yaml", text: text.as_bytes() },
    ])
    .unwrap_err();
    assert_eq!(
        findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "b.yaml:3:18: PC013 metadata.name: ClusterPullSecret regcred is already in a.yaml:3:18: remove one or give it \
          another name"
        ]
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    for (bytes, expected) in [
        (&b"a: b\nc: \xff"[..], "rules.yaml:2:4: PC002: the byte 0xff is not UTF-8: save the file as UTF-8"),
        (b"a: \xc3\xa4\0", "rules.yaml:1:5: PC002: the control character 0x00 is not text: remove it"),
        (b"\xff\xfea\0", "rules.yaml:1:1: PC002: is UTF-16: save the file as UTF-8"),
        (b"\x7fELF", "rules.yaml:1:1: PC002: the control character 0x7f is not text: remove it"),
        (b"a:\n\tb: c", "rules.yaml:2:2: PC002: a tab is where only spaces may be: write spaces"),
    ] {
        assert_eq!(refusals(bytes), [expected]);
    }
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = vec![b'#'; MAX_FILE_BYTES + 1];
    assert_eq!(
        refusals(&text),
        ["rules.yaml: PC001: is 16777217 bytes long: at most 16777216 are read, so make several files of it"]
    );
}

#[test]
fn a_small_text_that_stands_for_a_huge_one_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    let found = refusals(bomb.as_bytes());
    assert!(found[0].contains("PC002: the aliases of this file stand for more than 100000 values"), "{found:#?}");

    let mut merges = String::from("a0: &a0 {x: 1, y: 2}\n");
    for level in 1..40 {
        writeln!(merges, "a{level}: &a{level} {{k{level}: *a{}, <<: [*a{}, *a{}]}}", level - 1, level - 1, level - 1)
            .unwrap();
    }
    let found = refusals(merges.as_bytes());
    assert!(found[0].contains("PC002: the aliases of this file stand for more than 100000 values"), "{found:#?}");
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        let found = refusals(text.as_bytes());
        assert!(found[0].contains("PC002: "), "{found:#?}");
    }
}

fn rule(name: &str) -> String {
    format!(
        "apiVersion: pullcred.io/v1alpha1\nkind: ClusterPullSecret\nmetadata: {{name: {name}}}\nspec: {{images: \
         [asia.gcr.io/{name}], namespaceSelector: {{}}}}\n"
    )
}

/// The names of the rules that a text holds.
fn names(text: &str) -> Vec<String> {
    let documents = read(text.as_bytes()).unwrap_or_else(|findings| panic!("{findings:#?}"));
    documents.rules.iter().map(|rule| rule.id().to_string()).collect()
}

#[test]
fn a_rule_is_read_however_it_is_spelled() {
    let json = r#"{"apiVersion":"pullcred.io/v1alpha1","kind":"ClusterPullSecret","metadata":{"name":"regcred"},
	"spec":{"images":["asia.gcr.io"],"namespaceSelector":{}}}"#;
    let yaml = rule("regcred");
    for (spelling, text) in [
        ("YAML", yaml.clone()),
        ("YAML of Windows", yaml.replace('\n', "\r\n")),
        ("YAML with a byte-order mark", format!("\u{feff}{yaml}")),
        ("YAML between markers and comments", format!("# rules\n---\n{yaml}...\n---\n# nothing\n---\n")),
        ("JSON", json.to_owned()),
        ("JSON indented by tabs", json.replace(',', ",\n\t\t")),
        ("JSON with escapes", json.replace("asia", r"\u0061sia").replace('/', r"\/")),
        ("a list in YAML", format!("apiVersion: v1\nkind: List\nitems:\n- {}", yaml.trim_end().replace('\n', "\n  "))),
        ("a list in JSON", format!(r#"{{"apiVersion":"v1","kind":"List","metadata":{{}},"items":[{json}]}}"#)),
        ("an exported object", yaml.replace(
            "{name: regcred}",
            "{name: regcred, uid: 5f, generation: 1, creationTimestamp: null, resourceVersion: \"7\", managedFields: [], \
             annotations: {a: b}}\nstatus: {conditions: []}",
        )),
        ("YAML with an alias", yaml.replace("name: regcred", "name: &name regcred").replace(", names", ", secretName: *name, names")),
        ("YAML with a merge", yaml.replace("spec: {images", "spec: {<<: {mode: Inject, images: [a.io]}, images")),
        ("quoted texts", yaml.replace("kind: ClusterPullSecret", "'kind': \"ClusterPullSecret\"")),
        ("a text by its tag", yaml.replace("name: regcred", "name: !!str regcred")),
    ] {
        let documents = read(text.as_bytes()).unwrap_or_else(|findings| panic!("{spelling}: {findings:#?}\n{text}"));
        let [rule] = &documents.rules[..] else { panic!("{spelling}: {} rules", documents.rules.len()) };
        assert_eq!(rule.id().to_string(), "ClusterPullSecret regcred", "{spelling}");
        assert_eq!(rule.secret_name(), "regcred", "{spelling}");
        assert!(rule.patterns()[0].as_str().starts_with("asia.gcr.io"), "{spelling}");
    }
}

#[test]
fn json_values_may_follow_one_another() {
    let json = |name: &str| {
        format!(
            r#"{{"apiVersion":"pullcred.io/v1alpha1","kind":"ClusterPullSecret","metadata":{{"name":"{name}"}},"spec":{{"images":["a.io"],"namespaceSelector":{{}}}}}}"#
        )
    };
    assert_eq!(
        names(&format!("{}\n{} {}\n", json("a"), json("b"), json("c"))),
        ["ClusterPullSecret a", "ClusterPullSecret b", "ClusterPullSecret c"]
    );
    let found = refusals(format!("{}\n\n  {} {}", json("a"), json("B"), json("C")).as_bytes());
    assert!(found[0].starts_with("rules.yaml:3:86: PC009 metadata.name: `B`"), "{found:#?}");
    assert!(found[1].starts_with("rules.yaml:3:225: PC009 metadata.name: `C`"), "{found:#?}");
}

#[test]
fn a_file_without_documents_says_nothing() {
    for text in ["", "\n", "---\n---\n", "# nothing\n", "null"] {
        assert_eq!(names(text), [""; 0], "{text:?}");
    }
}

#[test]
fn an_absent_field_has_its_default() {
    let documents = read(rule("regcred").as_bytes()).unwrap();
    let rule = &documents.rules[0];
    assert_eq!((rule.secret_name(), rule.mode()), ("regcred", pullcred::rules::Mode::Inject));
}

#[test]
fn namespace_documents_give_labels_and_nothing_else() {
    let documents = read(
        b"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: production, n: \"1\"}}\nspec: {finalizers: [x]}",
    )
    .unwrap();
    let labels: Vec<(&str, &str)> = documents.namespaces["shop"].iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(labels, [("n", "1"), ("tier", "production")]);
    assert!(documents.rules.is_empty());
}

#[test]
fn the_examples_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rules");
    let files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    let files: Vec<SourceFile<'_>> = files.iter().map(|(name, text)| SourceFile { name, text }).collect();
    let documents = read_documents(&files).unwrap();
    let rules: BTreeSet<String> = documents.rules.iter().map(|rule| rule.id().to_string()).collect();
    assert!(rules.contains("ClusterPullSecret regcred"), "{rules:#?}");
}

#[test]
fn ten_thousand_rules_load_in_time_proportional_to_their_number() {
    let text = |count: usize| (0..count).flat_map(|n| ["---\n".to_owned(), rule(&format!("r{n}"))]).collect::<String>();
    let time = |count: usize| {
        let text = text(count);
        let start = Instant::now();
        assert_eq!(read(text.as_bytes()).unwrap().rules.len(), count);
        start.elapsed()
    };
    let few = time(1_000);
    let many = time(10_000);
    // Ten times as many in ten times the time; quadratic reading would take a hundred times.
    assert!(many < few * 40, "{few:?} for 1,000 rules, {many:?} for 10,000");
}

/// Text that looks enough like a document to get past the first checks.
fn almost_documents() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("apiVersion: pullcred.io/v1alpha1\n"),
        Just("apiVersion: v1\n"),
        Just("kind: ClusterPullSecret\n"),
        Just("kind: PullSecret\n"),
        Just("kind: Namespace\n"),
        Just("kind: List\n"),
        Just("items:\n- "),
        Just("metadata: {name: a, namespace: b, labels: {x: y}}\n"),
        Just("metadata:\n"),
        Just("  name: "),
        Just("spec:\n"),
        Just("  images: [asia.gcr.io, \"*.a.io\", 1]\n"),
        Just("  images:\n"),
        Just("  - a.io/b\n"),
        Just("  namespaceSelector: {}\n"),
        Just("  namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {operator: Exists}]}\n"),
        Just("  source: {secretRef: {name: a}}\n"),
        Just("  source: {googleServiceAccountKey: {secretRef: &a {key: b}}, unmanaged: *a}\n"),
        Just("  mode: Shadow\n"),
        Just("  reclaimAfter: 1h\n"),
        Just("<<: *a\n"),
        Just("&a "),
        Just("*a "),
        Just("---\n"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(": "),
        Just("\""),
        Just("\t"),
        Just("- "),
        Just("? "),
        Just("!!str "),
        Just("| \n"),
        Just("~"),
    ];
    prop::collection::vec(prop_oneof![8 => word.prop_map(str::to_owned), 1 => any::<String>()], 0..40)
        .prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn almost_documents_get_an_answer_in_our_words(text in almost_documents()) {
        if let Err(findings) = read(text.as_bytes()) {
            prop_assert!(!findings.is_empty());
            for finding in findings {
                prop_assert!(!finding.problem.message.contains("does not fit its type"), "{finding}");
                prop_assert!(finding.at.is_some_and(|at| at.line >= 1 && at.column >= 1), "{finding}");
                prop_assert!(!finding.to_string().contains('\n'), "{finding}");
            }
        }
    }

    #[test]
    fn a_document_cut_anywhere_gets_an_answer(cut in 0..1000_usize) {
        let text = bad_rules("api/selector.yaml");
        let _ = read(&text.as_bytes()[..cut.min(text.len())]);
    }
}
