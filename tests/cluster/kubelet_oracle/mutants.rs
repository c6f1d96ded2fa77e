//! Whether the cases would notice: the image room with one rule broken at a time, asked the same questions. A mutant that
//! answers everything as the kubelet does shows a hole in the tables or in what is generated.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::compare::{Oracle, comparable, generated};
use super::questions;

/// Generated questions of each kind, beside the tables.
const CASES: usize = 2_000;

/// One rule, broken: a file of `src/image`, a text that it holds once, and what stands there instead.
struct Mutant {
    rule: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn mutant(rule: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { rule, file, from, to }
}

const MUTANTS: &[Mutant] = &[
    // How a reference is read.
    mutant(
        "`index.docker.io` is `docker.io`",
        "reference.rs",
        "let registry = if registry == HUB_INDEX { HUB } else { registry };",
        "",
    ),
    mutant("one-part names get `library/`", "reference.rs", "registry == HUB && !path.contains('/')", "false"),
    mutant(
        "the limit counts `library/`",
        "reference.rs",
        "path.len() + if in_library { LIBRARY.len() + 1 } else { 0 } > REPOSITORY_LENGTH",
        "path.len() > REPOSITORY_LENGTH",
    ),
    mutant("64 digits are refused", "reference.rs", "text.len() == 64 && text.bytes().all(is_lower_hex)", "false"),
    mutant("upper case makes a host", "reference.rs", " || first.chars().any(char::is_uppercase)", ""),
    mutant("`localhost` is a host", "reference.rs", "first == \"localhost\" || ", ""),
    mutant(
        "a digest alone leaves the tag empty",
        "reference.rs",
        "if tag.is_none() && digest.is_none()",
        "if tag.is_none()",
    ),
    mutant(
        "digests are lower case",
        "reference.rs",
        "hex.len() == length && hex.bytes().all(is_lower_hex)",
        "hex.len() == length",
    ),
    mutant("sha512 has 128 digits", "reference.rs", "\"sha512\" => 128", "\"sha512\" => 64"),
    mutant("`__` separates", "reference.rs", "\".\" | \"_\" | \"__\"", "\".\" | \"_\""),
    mutant(
        "a label ends with a letter or digit",
        "reference.rs",
        "            && label.last().is_some_and(u8::is_ascii_alphanumeric)",
        "",
    ),
    mutant(
        "a tag does not begin with a dot",
        "reference.rs",
        "bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')",
        "bytes.next().is_some()",
    ),
    // What a key comes down to.
    mutant("`http://` is taken off", "keyring.rs", "[&b\"https://\"[..], b\"http://\"]", "[&b\"https://\"[..]]"),
    mutant(
        "upper-case schemes are not",
        "keyring.rs",
        "key.strip_prefix(*scheme)",
        "key.to_ascii_lowercase().starts_with(scheme).then(|| &key[scheme.len()..])",
    ),
    mutant("`/v1/` is taken off", "keyring.rs", " || path.starts_with(b\"/v1/\")", ""),
    mutant("`/v1` is not without its slash", "keyring.rs", "path.starts_with(b\"/v1/\")", "path.starts_with(b\"/v1\")"),
    mutant(
        "only one of `/v1/`, `/v2/` is",
        "keyring.rs",
        "let path = if path.starts_with",
        "let path = if path.starts_with(b\"/v1/v2/\") { &path[6..] } else if path.starts_with",
    ),
    mutant("a slash alone is no path", "keyring.rs", "if path != b\"/\"", "if !path.is_empty()"),
    mutant("a key that is no URL is dropped alone", "keyring.rs", "else { continue };", "else { break };"),
    // The order.
    mutant("greater keys come first", "keyring.rs", "self.entries.iter().rev()", "self.entries.iter()"),
    mutant("equal keys stay in their order", "keyring.rs", "or_default().push(entry)", "or_default().insert(0, entry)"),
    mutant(
        "nothing is left out",
        "keyring.rs",
        "self.entries.entry(reduced).or_default().push(entry)",
        "_ = self.entries.entry(reduced).or_insert_with(|| vec![entry])",
    ),
    // What a key covers.
    mutant("ports are compared", "keyring.rs", "key_port != port || ", ""),
    mutant("labels are counted", "keyring.rs", "|| labels(key_host) != labels(host) ", ""),
    mutant(
        "hosts are compared with their case",
        "keyring.rs",
        "glob::matches(pattern, label)?",
        "glob::matches(&pattern.to_ascii_lowercase(), &label.to_ascii_lowercase())?",
    ),
    mutant(
        "a path is a prefix",
        "keyring.rs",
        "!name.path.starts_with(&key.path)",
        "!(key.path.is_empty() || name.path == key.path)",
    ),
    mutant(
        "a prefix of text, not of parts",
        "keyring.rs",
        "!name.path.starts_with(&key.path)",
        "!(name.path.starts_with(&key.path) && (key.path.is_empty() || key.path.ends_with(b\"/\") || matches!(name.path.get(key.path.len()), None | Some(b'/'))))",
    ),
    mutant("the Hub's own key is asked", "keyring.rs", "found.is_empty() && falls_back_to_hub(&name)", "false"),
    mutant(
        "only when nothing else covers",
        "keyring.rs",
        "found.is_empty() && falls_back_to_hub(&name)",
        "falls_back_to_hub(&name) && self.entries.contains_key(HUB)",
    ),
    mutant("not for every registry", "keyring.rs", "found.is_empty() && falls_back_to_hub(&name)", "found.is_empty()"),
    mutant(
        "but for hosts without dot and colon",
        "keyring.rs",
        "!host.is_empty() && !host.contains(['.', ':'])",
        "false",
    ),
    // Globs.
    mutant(
        "a star takes any number",
        "glob.rs",
        "0..name.iter().take_while(|byte| **byte != b'/').count()",
        "0..name.len().min(1)",
    ),
    mutant(
        "a star takes none",
        "glob.rs",
        "            && (after.is_empty() || !pattern.is_empty())\n        {\n            name = after;\n            continue;",
        "            && stars == 0 && (after.is_empty() || !pattern.is_empty())\n        {\n            name = after;\n            continue;",
    ),
    mutant(
        "an address without its port is a class",
        "glob.rs",
        "matched |= wanted.is_some_and(|wanted| (low..=high).contains(&wanted));",
        "",
    ),
    // URLs.
    mutant(
        "the last `@` ends the userinfo",
        "url.rs",
        "authority.iter().rposition(|byte| *byte == b'@')",
        "authority.iter().position(|byte| *byte == b'@')",
    ),
    mutant("userinfo is checked", "url.rs", "            check_userinfo(&authority[..at])?;", ""),
    mutant("the query is taken off", "url.rs", "let (text, _query) = cut(text, b'?');", ""),
    mutant(
        "the fragment is taken off",
        "url.rs",
        "let (text, fragment) = cut(text, b'#');",
        "let fragment: Option<&[u8]> = None;",
    ),
    mutant("and must be decodable", "url.rs", "unescape(fragment)?;", "let _ = fragment;"),
    mutant("control characters are refused", "url.rs", "*byte < 0x20 || *byte == 0x7f", "*byte < 0x20"),
    mutant("paths are decoded", "url.rs", "let path = unescape(path)?;", "let path = path.to_vec();"),
    mutant(
        "ASCII in hosts may not be escaped",
        "url.rs",
        "|byte| byte >= 0x80 || byte == b'%', |byte|",
        "|_| true, |byte|",
    ),
    mutant(
        "not everything is a host",
        "url.rs",
        "|byte| byte >= 0x80 || is_host_byte(byte))\n}\n\nfn unescape_zone",
        "|_| true)\n}\n\nfn unescape_zone",
    ),
    mutant(
        "ports are digits",
        "url.rs",
        "[b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(()),",
        "[b':', ..] => Ok(()),",
    ),
    mutant("brackets hold an IPv6 address", "url.rs", "if !is_ipv6(&plain)", "if false"),
    // Docker configs.
    mutant(
        "`auth` wins",
        "docker_config.rs",
        "if auth.is_empty() {",
        "if auth.is_empty() || !credential.username.is_empty() {",
    ),
    mutant(
        "left-over bits may be set",
        "docker_config.rs",
        "with_decode_allow_trailing_bits(true)",
        "with_decode_allow_trailing_bits(false)",
    ),
    mutant(
        "padding may be left out",
        "docker_config.rs",
        "DecodePaddingMode::RequireNone",
        "DecodePaddingMode::RequireCanonical",
    ),
    mutant("newlines may be anywhere", "docker_config.rs", "auth.replace(['\\r', '\\n'], \"\")", "auth"),
    mutant(
        "the first colon splits",
        "docker_config.rs",
        "decoded.iter().position(|byte| *byte == b':')",
        "decoded.iter().rposition(|byte| *byte == b':')",
    ),
    mutant(
        "a repeated `auths` adds",
        "docker_config.rs",
        "entries(members, config)?",
        "entries(members, BTreeMap::new())?",
    ),
    mutant("`null` takes all away", "docker_config.rs", "None => BTreeMap::new(),", "None => config,"),
    mutant("`HttpHeaders` must be texts", "docker_config.rs", "json::names(&name, \"HttpHeaders\")", "false"),
    mutant("`email` must be text", "docker_config.rs", "            (\"email\", &mut email),\n", ""),
    mutant(
        "the legacy type has no `auths`",
        "docker_config.rs",
        "if kind == SecretType::DockerCfg {",
        "if kind == SecretType::DockerCfg && !data.starts_with(b\"{\\\"auths\\\"\") {",
    ),
    mutant(
        "the legacy type counts",
        "docker_config.rs",
        "            \"kubernetes.io/dockercfg\" => Some(Self::DockerCfg),\n",
        "",
    ),
    // Go's JSON.
    mutant("`ſ` is an s", "json.rs", "        '\\u{17f}' => 's',\n", ""),
    mutant("names ignore case", "json.rs", "char => char.to_ascii_lowercase(),", "char => char,"),
    mutant(
        "each byte that is no text is replaced",
        "json.rs",
        "chunk.invalid().len()",
        "usize::from(!chunk.invalid().is_empty())",
    ),
    mutant("half a character is replaced once", "json.rs", "if invalid % 3 == 0 {", "if invalid < 3 {"),
    mutant(
        "`null` is no mapping, and no mistake",
        "json.rs",
        "        Some(b'n') => Ok(None),\n        _ => Err(JsonError::NotAnObject),",
        "        _ => Err(JsonError::NotAnObject),",
    ),
    mutant(
        "`null` is no text, and no mistake",
        "json.rs",
        "        Some(b'n') => Ok(None),\n        _ => Err(JsonError::NotText),",
        "        _ => Err(JsonError::NotText),",
    ),
];

#[test]
fn every_broken_rule_is_noticed() {
    let programs = build(Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants").as_path());

    let (exact, sorted) = asked();
    let all: Vec<Value> = exact.iter().chain(&sorted).cloned().collect();
    let compared = |answers: Vec<Value>| -> Vec<Value> {
        let place = |(place, answer)| comparable(answer, place >= exact.len());
        answers.into_iter().enumerate().map(place).collect()
    };
    let theirs = compared(Oracle::kubelet().ask(&all));
    let differing = |program: &Path| -> Option<usize> {
        // One that panics is noticed too.
        let ours = compared(Oracle::program(program).try_ask(&all).ok()?);
        Some(ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count())
    };

    assert_eq!(differing(&programs.join("unbroken")), Some(0), "nothing is broken, and answers differ");
    let mut unnoticed = Vec::new();
    for (number, Mutant { rule, file, .. }) in MUTANTS.iter().enumerate() {
        match differing(&programs.join(format!("mutant-{number}"))) {
            Some(0) => unnoticed.push(format!("{file}: {rule}")),
            Some(count) => println!("{rule}: {count} of {} noticed", all.len()),
            None => println!("{rule}: ended badly"),
        }
    }
    assert!(unnoticed.is_empty(), "no case notices that these rules are broken:\n{}", unnoticed.join("\n"));
}

/// Questions whose answers have one order, and questions that hold several spellings of one key.
fn asked() -> (Vec<Value>, Vec<Value>) {
    let kinds = [questions::parse(), questions::matching(), questions::order()];
    let mut exact = questions::references();
    exact.extend(questions::keys().into_iter().map(|(_, question)| question));
    exact.extend(questions::secrets().into_iter().map(|(_, question, _)| question));
    exact.extend(kinds.iter().flat_map(|kind| generated(kind, CASES)).map(|tree| tree.current()));
    let sorted = generated(&questions::lookups(), CASES).iter().map(|tree| tree.current()).collect();
    (exact, sorted)
}

/// Builds a program that answers as `pullcred oracle` does for each mutant, and one with nothing broken; gives the folder.
fn build(package: &Path) -> std::path::PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = ["base64", "serde", "serde_json", "strsim", "thiserror", "anyhow"];
    let manifest = fs::read_to_string(checkout.join("Cargo.toml")).unwrap();
    let dependencies: Vec<&str> = manifest
        .lines()
        .filter(|line| line.split_once(" = ").is_some_and(|(name, _)| wanted.contains(&name)))
        .collect();
    assert_eq!(dependencies.iter().collect::<BTreeSet<_>>().len(), wanted.len(), "each is a dependency once");
    write(
        &package.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"mutants\"\nedition = \"2024\"\n[workspace]\n[profile.dev]\ndebug = false\n[dependencies]\n{}\n",
            dependencies.join("\n")
        ),
    );
    // The same versions: what is not needed of it falls out.
    fs::copy(checkout.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let program = |name: &str, mutant: Option<&Mutant>| {
        let folder = package.join("src/bin").join(name);
        for entry in fs::read_dir(checkout.join("src/image")).unwrap().map(Result::unwrap) {
            let file = entry.file_name().into_string().unwrap();
            let mut text = fs::read_to_string(entry.path()).unwrap();
            if let Some(Mutant { rule, from, to, .. }) = mutant.filter(|mutant| mutant.file == file) {
                assert_eq!(text.matches(from).count(), 1, "{file} has no one place for the mutant of: {rule}");
                text = text.replace(from, to);
            }
            write(&folder.join("image").join(file), &text);
        }
        let oracle = fs::read_to_string(checkout.join("src/cli/oracle.rs")).unwrap();
        write(&folder.join("oracle.rs"), &oracle);
        let main = "mod image;\nmod oracle;\nfn main() -> anyhow::Result<()> {\n    oracle::run(std::io::stdin().lock(), std::io::stdout().lock())\n}\n";
        write(&folder.join("main.rs"), &format!("#![allow(warnings)]\n{main}"));
    };
    program("unbroken", None);
    for (number, mutant) in MUTANTS.iter().enumerate() {
        program(&format!("mutant-{number}"), Some(mutant));
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--bins"])
        .current_dir(package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    assert!(built.status.success(), "the mutants do not compile:\n{}", String::from_utf8_lossy(&built.stderr));
    package.join("target/debug")
}

/// Writes a file unless it says that already, so that nothing is built twice.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
