//! Values that a document shows, in blocks marked `yaml values`, are values of the chart.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::chart::render;

#[test]
fn the_chart_takes_every_value_that_a_document_shows() {
    let mut shown = 0;
    for path in documents(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml values\n").skip(1) {
            let values: Value = serde_saphyr::from_str(block.split("```").next().unwrap()).unwrap();
            if let Err(said) = render("pullcred", "pullcred", &values) {
                panic!("{}: {values}: {said}", path.display());
            }
            shown += 1;
        }
    }
    assert!(shown > 0, "no document shows values");
}

/// README.md and what is in `docs`.
fn documents(top: &Path) -> Vec<PathBuf> {
    let mut documents = vec![top.join("README.md")];
    let mut directories = vec![top.join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None => directories.push(path),
                Some(extension) if extension == "md" => documents.push(path),
                Some(_) => {}
            }
        }
    }
    documents
}
