//! Every finding has a code, and `docs/findings.md` says for each what it means and how to mend it.

use pullcred::rules::Code;

#[test]
fn the_page_of_findings_has_every_code_in_order_and_no_other() {
    let page = include_str!("../../docs/findings.md");
    let on_page: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).filter_map(|title| title.split(':').next()).collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(on_page, codes);
}

#[test]
fn every_code_on_the_page_says_what_to_do() {
    let page = include_str!("../../docs/findings.md");
    for section in page.split("\n## ").skip(1) {
        assert!(section.contains("\n**Mend:** "), "{section}");
    }
}
