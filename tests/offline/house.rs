//! Holds the invariants of `ARCHITECTURE.md` that a compiler cannot: who may import whom, which crates a pure room may
//! know, how long a file may be, that what the documents point at is there, and that what they
//! show is so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

mod commands;
mod documents;
mod source;

/// A folder of `src/`: the rooms it may import and, for a pure room, what it may name beside `std`: crates, or paths in
/// one that also holds what is not pure.
struct Room {
    name: &'static str,
    imports: &'static [&'static str],
    pure_with: Option<&'static [&'static str]>,
}

const ROOMS: &[Room] = &[
    Room { name: "image", imports: &[], pure_with: Some(&["base64", "serde", "serde_json", "strsim", "thiserror"]) },
    Room {
        name: "rules",
        imports: &["image"],
        pure_with: Some(&[
            "granit_parser",
            "k8s_openapi",
            "kube::CustomResource",
            "kube::CustomResourceExt",
            "kube::KubeSchema",
            "schemars",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
        ]),
    },
    Room {
        name: "admission",
        imports: &["image", "rules"],
        pure_with: Some(&["base64", "serde", "serde_json", "thiserror"]),
    },
    // base64: PEM of certificates that somebody else made, and that we pass on.
    Room {
        name: "pki",
        imports: &[],
        pure_with: Some(&["base64", "jiff", "rcgen", "thiserror", "time", "x509_parser"]),
    },
    Room { name: "provision", imports: &["image", "rules"], pure_with: Some(&["jiff", "k8s_openapi"]) },
    Room { name: "process", imports: &["rules"], pure_with: None },
    Room { name: "cluster", imports: &["rules", "process"], pure_with: None },
    Room { name: "webhook", imports: &["rules", "admission", "pki", "cluster", "process"], pure_with: None },
    Room {
        name: "controller",
        imports: &["image", "rules", "pki", "provision", "cluster", "process"],
        pure_with: None,
    },
    Room { name: "doctor", imports: &["image", "rules", "pki", "cluster"], pure_with: None },
    Room {
        name: "cli",
        imports: &["image", "rules", "admission", "pki", "cluster", "process", "webhook", "controller", "doctor"],
        pure_with: None,
    },
];

/// What of `std` no pure room names, with the few names inside that are only data.
const NOT_PURE: &[(&str, &[&str])] = &[
    ("std::env", &[]),
    ("std::fs", &[]),
    ("std::io", &[]),
    ("std::net", &["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"]),
    ("std::os", &[]),
    ("std::process", &[]),
    ("std::thread", &[]),
    ("std::time", &["Duration"]),
];

/// Longest file of `src/`, its tests not counted: one that grows past this is two things.
const MOST_LINES: usize = 500;

/// The files that the checks look at, by path from the top of the checkout.
struct House {
    files: BTreeMap<String, String>,
}

impl House {
    fn checkout() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(top)
            .output()
            .expect("`git` lists the files of the checkout");
        assert!(listed.status.success(), "the checks read what git tracks, and this is no git checkout");
        let names = String::from_utf8(listed.stdout).expect("paths of this repository are UTF-8");
        let read = |name: &str| Some((name.to_owned(), std::fs::read_to_string(top.join(name)).ok()?));
        Self { files: names.split_terminator('\0').filter_map(read).collect() }
    }

    fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let has = move |path: &str| Path::new(path).extension().is_some_and(|found| found == extension);
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).filter(move |(path, _)| has(path))
    }

    /// The files of `src/` as code alone: without comments, literals, tests, and files that are tests as a whole.
    fn sources(&self) -> Vec<Source<'_>> {
        let mut sources = Vec::new();
        let mut tests = BTreeSet::new();
        for (path, text) in self.with_extension("rs").filter(|(path, _)| path.starts_with("src/")) {
            let code = source::without_comments_and_literals(text);
            let items = source::test_items(&code);
            let module = Module::of(path);
            let of_tests = |item: &source::TestItem| text[item.bytes.clone()].lines().count();
            let lines = text.lines().count() - items.iter().map(of_tests).sum::<usize>();
            let code = source::without(&code, &items);
            tests.extend(items.into_iter().filter_map(|item| Some([module.0.clone(), vec![item.file?]].concat())));
            sources.push(Source { path, code, lines, module });
        }
        sources.retain(|source| !tests.iter().any(|test| source.module.0.starts_with(test)));
        sources
    }

    /// Names of crates that code could name, as `Cargo.toml` has them.
    fn crates(&self) -> BTreeSet<String> {
        let manifest = self.files.get("Cargo.toml").map_or("", String::as_str);
        let mut of_dependencies = false;
        let mut crates = BTreeSet::new();
        for line in manifest.lines() {
            if let Some(table) = line.strip_prefix('[') {
                of_dependencies = table.trim_end_matches(']').ends_with("dependencies");
            } else if let Some((name, _)) = line.split_once('=').filter(|_| of_dependencies) {
                crates.insert(name.trim().replace('-', "_"));
            }
        }
        crates
    }
}

struct Source<'a> {
    path: &'a str,
    code: String,
    /// How many lines the file has, its test items not counted.
    lines: usize,
    module: Module,
}

impl Source<'_> {
    /// The folder of `src/` that it is in; `lib.rs` and `main.rs` are in none.
    fn room(&self) -> Option<&str> {
        self.module.0.first().map(String::as_str).filter(|name| !matches!(*name, "lib" | "main"))
    }
}

/// Where a file is in the tree of modules: `src/rules/set.rs` is `rules`, `set`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Module(Vec<String>);

impl Module {
    fn of(path: &str) -> Self {
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        Self(inside.split('/').map(str::to_owned).collect())
    }

    /// The room that a path written in this file leads to, if it leads out of the file's own.
    fn leads_to<'p>(&self, path: &'p source::CodePath) -> Option<&'p str> {
        let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
        let at = match path.segments[0].as_str() {
            "crate" | "pullcred" => 1,
            "super" if ups >= self.0.len() => ups,
            _ => return None,
        };
        path.segments.get(at).map(String::as_str).filter(|room| self.0.first().is_none_or(|own| own != room))
    }
}

fn wrong_directions(house: &House) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in house.sources() {
        let Some(name) = source.room() else { continue };
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            wrong.push(format!(
                "{}: room `{name}` is not in the table of rooms: say there what it may import",
                source.path
            ));
            continue;
        };
        for path in source::paths(&source.code) {
            let Some(other) = source.module.leads_to(&path) else { continue };
            if !room.imports.contains(&other) {
                wrong.push(format!("{}:{}: `{name}` may not import `{other}`", source.path, path.line));
            }
        }
    }
    wrong
}

fn impurities(house: &House) -> Vec<String> {
    let crates = house.crates();
    let mut found = Vec::new();
    for source in house.sources() {
        let room = ROOMS.iter().find(|room| Some(room.name) == source.room());
        let Some((room, allowed)) = room.and_then(|room| Some((room.name, room.pure_with?))) else { continue };
        for path in source::paths(&source.code) {
            let named = path.segments.join("::");
            let within =
                |whole: &str| named.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
            let foreign = crates.contains(&path.segments[0]) && !allowed.iter().any(|allowed| within(allowed));
            let not_pure = NOT_PURE
                .iter()
                .any(|(module, data)| within(module) && !data.iter().any(|name| within(&format!("{module}::{name}"))));
            if foreign || not_pure {
                found.push(format!("{}:{}: `{room}` is pure and may not name `{named}`", source.path, path.line));
            }
        }
    }
    found
}

/// Tasks and threads that nobody would notice ending: `process::tasks` and a `JoinSet` own what they start.
fn unowned_tasks(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for source in house.sources() {
        for path in source::paths(&source.code) {
            let named = path.segments.join("::");
            if ["tokio::spawn", "tokio::task::spawn", "task::spawn", "std::thread::spawn", "thread::spawn"]
                .contains(&named.as_str())
            {
                found.push(format!("{}:{}: nobody owns what `{named}` starts", source.path, path.line));
            }
        }
    }
    found
}

/// A request waits for nobody: what it reads is swapped as a whole, and what it counts is an atomic.
fn locks_on_the_way_of_a_request(house: &House) -> Vec<String> {
    const ON_THE_WAY: &[&str] = &["image", "rules", "admission", "process", "webhook"];
    let mut found = Vec::new();
    for source in
        house.sources().into_iter().filter(|source| source.room().is_some_and(|room| ON_THE_WAY.contains(&room)))
    {
        for path in source::paths(&source.code) {
            if path.segments.iter().any(|segment| matches!(segment.as_str(), "Mutex" | "RwLock" | "parking_lot")) {
                found.push(format!(
                    "{}:{}: `{}` on the way of a request",
                    source.path,
                    path.line,
                    path.segments.join("::")
                ));
            }
        }
    }
    found
}

fn long_files(house: &House) -> Vec<String> {
    let long = house.sources().into_iter().filter(|source| source.lines > MOST_LINES);
    let tell = |Source { path, lines, .. }| {
        format!("{path}: {lines} lines without its tests, {MOST_LINES} at most: it is two things")
    };
    long.map(tell).collect()
}

fn files_without_a_purpose(house: &House) -> Vec<String> {
    let opens_with_a_sentence = |text: &str| {
        let opening: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let first: Vec<_> = opening.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
        first.last().is_some_and(|last| last.ends_with(['.', ':', '!', '?']))
    };
    let silent = house.with_extension("rs").filter(|(_, text)| !opens_with_a_sentence(text));
    silent.map(|(path, _)| format!("{path}: opens without a `//!` sentence that says what it is for")).collect()
}

/// Hosts of package registries (a person behind a mirror could not follow) and folders of somebody's machine.
fn places_of_one_machine(house: &House) -> Vec<String> {
    let mut places: Vec<String> = [
        ["index", "crates", "io"].as_slice(),
        &["static", "crates", "io"],
        &["pypi", "org"],
        &["files", "pythonhosted", "org"],
        &["registry", "npmjs", "org"],
        &["proxy", "golang", "org"],
        &["sum", "golang", "org"],
        &["deb", "debian", "org"],
    ]
    .iter()
    .map(|labels| labels.join("."))
    .collect();
    places.extend(["home", "root", "Users"].map(|folder| format!("/{folder}/")));
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A checkout right below `/` has too common a name to look for.
    places.extend((checkout.components().count() > 2).then(|| checkout.display().to_string()));
    let mut found = Vec::new();
    for (path, text) in &house.files {
        for (index, line) in text.lines().enumerate() {
            for place in places.iter().filter(|place| line.contains(place.as_str())) {
                found.push(format!("{path}:{}: names `{place}`, which is not everybody's", index + 1));
            }
        }
    }
    found
}

fn dead_links(house: &House) -> Vec<String> {
    let mut dead = Vec::new();
    for (path, text) in house.with_extension("md") {
        for link in documents::local_links(text) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let target = if file.is_empty() { path.to_owned() } else { beside(path, file) };
            let is_folder =
                || house.files.keys().any(|known| known.starts_with(&format!("{}/", target.trim_end_matches('/'))));
            let leads_somewhere = match house.files.get(&target) {
                Some(text) => anchor.is_empty() || documents::anchors(text).iter().any(|known| known == anchor),
                None => anchor.is_empty() && is_folder(),
            };
            if !leads_somewhere {
                dead.push(format!("{path}:{}: the link to `{}` leads nowhere", link.line, link.target));
            }
        }
    }
    dead
}

/// `file` as written in `path`, from the top of the checkout.
fn beside(path: &str, file: &str) -> String {
    let mut resolved = PathBuf::from(path);
    resolved.pop();
    for part in file.split('/') {
        match part {
            ".." => _ = resolved.pop(),
            "." => {}
            name => resolved.push(name),
        }
    }
    resolved.display().to_string()
}

macro_rules! holds {
    ($name:ident, $check:path) => {
        #[test]
        fn $name() {
            let wrong = $check(&House::checkout());
            assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
        }
    };
}

holds!(rooms_import_only_what_the_table_allows, wrong_directions);
holds!(pure_rooms_name_no_clock_file_socket_or_runtime, impurities);
holds!(every_task_has_an_owner, unowned_tasks);
holds!(nothing_on_the_way_of_a_request_takes_a_lock, locks_on_the_way_of_a_request);
holds!(no_source_file_is_longer_than_its_limit, long_files);
holds!(every_rust_file_opens_with_what_it_is_for, files_without_a_purpose);
holds!(no_file_names_a_place_of_one_machine, places_of_one_machine);
holds!(every_link_in_the_documents_leads_somewhere, dead_links);
holds!(every_command_in_the_documents_says_where_it_is_run, commands::unmarked);
holds!(every_command_with_a_stage_of_its_own_is_in_one, commands::in_no_stage);
holds!(every_command_that_is_not_run_is_listed, commands::not_as_listed);
holds!(every_rule_in_the_documents_is_one, commands::wrong_rules);

#[test]
fn an_import_against_the_direction_is_found_however_it_is_written() {
    let wrong = [
        ("src/image/pattern.rs", "use crate::rules::Rule;"),
        ("src/image/pattern.rs", "use super::super::rules;"),
        ("src/image/mod.rs", "fn f() { super::rules::compile() }"),
        ("src/rules/mod.rs", "use crate::{image, admission::answer};"),
        ("src/webhook/mod.rs", "use {crate::cli as c};"),
        ("src/pki/mod.rs", "pub type P = crate::image::ImagePattern;"),
        ("src/newroom/mod.rs", ""),
    ];
    for (path, text) in wrong {
        assert_eq!(wrong_directions(&House::of(&[(path, text)])).len(), 1, "{path}: {text}");
    }
}

#[test]
fn an_import_along_the_direction_passes() {
    let right = [
        (
            "src/rules/mod.rs",
            "use crate::image; // not crate::admission\nuse crate::rules::x; mod y; use super::rules::z;",
        ),
        ("src/rules/set.rs", "use super::super::image::ImagePattern; use super::document;"),
        (
            "src/image/mod.rs",
            "#[cfg(test)] mod tests { use crate::rules::Rule; }\nconst TEXT: &str = \"crate::rules::x\";",
        ),
        ("src/lib.rs", "pub mod rules; pub use crate::rules::Rule;"),
    ];
    for (path, text) in right {
        assert_eq!(wrong_directions(&House::of(&[(path, text)])), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_file_that_is_a_test_as_a_whole_may_import_anything() {
    let files =
        [("src/image/mod.rs", "#[cfg(test)]\nmod samples;"), ("src/image/samples.rs", "use crate::rules::Rule;")];
    assert_eq!(wrong_directions(&House::of(&files)), Vec::<String>::new());
    assert_eq!(wrong_directions(&House::of(&files[1..])).len(), 1);
}

#[test]
fn a_clock_a_file_or_a_foreign_crate_in_a_pure_room_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\ntokio = \"1\"\nserde = \"1\"\nkube = \"1\"\nx509-parser = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
    let check = |room: &str, text: &str| {
        impurities(&House::of(&[("Cargo.toml", manifest), (&format!("src/{room}/mod.rs"), text)])).len()
    };
    assert_eq!(check("rules", "use kube::{Client, CustomResource, KubeSchema::x};"), 1);
    for text in [
        "use tokio;",
        "use tokio::spawn as start;",
        "fn f() { tokio::spawn(x) }",
        "use x509_parser::x;",
        "use x509_parser::parse;",
        "use proptest::prelude::*;",
        "use kube::Client;",
        "use std::fs;",
        "use std::{fmt, time::{Duration, Instant}};",
        "use std::net::*;",
        "fn f() { std::env::var(\"A\") }",
    ] {
        assert_eq!(check("image", text), 1, "{text}");
    }
    assert_eq!(check("image", "use std::{fmt, time::Duration, net::IpAddr}; use name::tokio; fn f(name: u8) {}"), 0);
    assert_eq!(check("admission", "use serde::Serialize;"), 0);
    assert_eq!(check("webhook", "use tokio::spawn; use std::fs;"), 0);
}

#[test]
fn a_task_that_nobody_owns_is_found() {
    let check = |text: &str| unowned_tasks(&House::of(&[("src/webhook/mod.rs", text)])).len();
    for text in
        ["use tokio::{spawn, sync};", "fn f() { tokio::spawn(x); }", "use tokio::task; fn f() { task::spawn(x); }"]
    {
        assert_eq!(check(text), 1, "{text}");
    }
    assert_eq!(check("fn f(tasks: &mut JoinSet<()>) { tasks.spawn(x); }"), 0);
}

#[test]
fn a_lock_on_the_way_of_a_request_is_found() {
    let check = |path: &str, text: &str| locks_on_the_way_of_a_request(&House::of(&[(path, text)])).len();
    for text in ["use std::sync::{Arc, Mutex};", "struct A(tokio::sync::RwLock<u8>);", "use parking_lot::RwLock;"] {
        assert_eq!(check("src/webhook/mod.rs", text), 1, "{text}");
        assert_eq!(check("src/cli/mod.rs", text), 0, "{text}");
    }
    assert_eq!(check("src/webhook/mod.rs", "use std::sync::Arc; use arc_swap::ArcSwap;"), 0);
}

#[test]
fn a_file_past_its_limit_is_found_and_its_tests_do_not_count() {
    let lines = |count: usize| "// {\n".repeat(count);
    let tests = "#[cfg(test)]\nmod tests {\n    fn a() {}\n\n}\n";
    let check = |text: &str| long_files(&House::of(&[("src/image/mod.rs", text)])).len();
    assert_eq!(check(&lines(MOST_LINES + 1)), 1);
    assert_eq!(check(&(lines(MOST_LINES) + tests)), 0);
    assert_eq!(check(&(lines(MOST_LINES) + "fn a() {}\n" + tests)), 1);
}

#[test]
fn a_file_that_does_not_say_what_it_is_for_is_found() {
    for text in
        ["", "use a::b;", "// no\n", "//! no sentence\n", "//!\n//! Too late.\n", "//! Half a\n\n//! sentence.\n"]
    {
        assert_eq!(files_without_a_purpose(&House::of(&[("tests/a.rs", text)])).len(), 1, "{text}");
    }
    assert!(
        files_without_a_purpose(&House::of(&[("tests/a.rs", "//! Over two\n//! lines.\n//!\n//! - more\n")]))
            .is_empty()
    );
}

#[test]
fn a_place_of_one_machine_is_found() {
    for line in [
        ["see ", "/home", "/me/x"].concat(),
        ["https://py", "pi", ".org/simple"].concat(),
        env!("CARGO_MANIFEST_DIR").to_owned(),
    ] {
        assert_eq!(places_of_one_machine(&House::of(&[("a.md", &line)])).len().min(1), 1, "{line}");
    }
}

#[test]
fn a_link_to_nothing_is_found() {
    let house = |text| House::of(&[("docs/a.md", text), ("docs/b.md", "# Some heading\n"), ("c/d.txt", "")]);
    for text in ["[x](no.md)", "[x](b.md#other)", "[x](../docs)(../e)[y](f/)", "[x](#other)"] {
        assert_eq!(dead_links(&house(text)).len(), 1, "{text}");
    }
    for text in [
        "[x](b.md)",
        "[x](./b.md#some-heading)",
        "[x](../c/d.txt)",
        "[x](../c/)",
        "[x](#own)\n# Own",
        "[x](https://a.example)",
    ] {
        assert_eq!(dead_links(&house(text)), Vec::<String>::new(), "{text}");
    }
}
