//! Rule documents: any text is either rules or findings, and a finding is about a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullcred::rules::{RuleSet, SourceFile, read_documents};

fuzz_target!(|text: &[u8]| {
    match read_documents(&[SourceFile { name: "rules.yaml", text }]) {
        Ok(documents) => {
            let rules = RuleSet::compile(documents.rules);
            assert!(rules.rules().iter().all(|rule| !rule.patterns().is_empty() && !rule.secret_name().is_empty()));
        }
        Err(findings) => {
            assert!(!findings.is_empty());
            // A carriage return ends a line of YAML too.
            let lines = 1 + text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            for finding in findings {
                assert!(finding.at.is_none_or(|at| (1..=lines).contains(&(at.line as usize))), "{finding}");
                assert!(finding.to_string().starts_with("rules.yaml:"), "{finding}");
            }
        }
    }
});
