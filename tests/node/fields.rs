//! Who owns which field of the release's objects (`metadata.managedFields`), and whether two writers fight over one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::node::LIMIT;
use crate::release::Release;

/// Longer than the controller ever pauses before it writes something again.
const REST: Duration = Duration::from_secs(20);

/// Helm, which applies what the chart says.
const HELM: &str = "helm";

/// Everything of a webhook configuration that is not Helm's: the bundle, and the key of the entry that it is in.
const BUNDLE: [&str; 2] = [
    r#"/f:webhooks/k:{"name":"inject.pullcred.io"}/f:clientConfig/f:caBundle"#,
    r#"/f:webhooks/k:{"name":"inject.pullcred.io"}/f:name"#,
];

/// Waits until nobody writes any of the release's objects any more, and gives them. Two who fight never let go.
pub async fn at_rest(release: Release<'_>) -> Vec<DynamicObject> {
    let versions = |objects: &[DynamicObject]| -> Vec<_> {
        objects.iter().map(|object| (told(object), object.resource_version())).collect()
    };
    let start = Instant::now();
    let mut objects = release.objects().await;
    loop {
        tokio::time::sleep(REST).await;
        let later = release.objects().await;
        let (before, after) = (versions(&objects), versions(&later));
        if before == after {
            return later;
        }
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(start.elapsed() < LIMIT, "still written: {changed:?}");
        objects = later;
    }
}

/// What is wrong with the owners of these objects' fields.
pub fn fights(objects: &[DynamicObject]) -> Vec<String> {
    let mut wrong = Vec::new();
    for object in objects {
        let owners = owners(object);
        if !owners.keys().any(|owner| owner.starts_with(HELM)) {
            wrong.push(format!("{}: Helm owns nothing of it", told(object)));
        }
        for (owner, fields) in &owners {
            let strange: Vec<_> = fields.iter().filter(|field| !is_of(owner, field)).collect();
            if !strange.is_empty() {
                wrong.push(format!("{}: {owner} owns {strange:?}", told(object)));
            }
        }
        for (one, fields) in &owners {
            for (other, others) in
                owners.range::<String, _>((std::ops::Bound::Excluded(one), std::ops::Bound::Unbounded))
            {
                let shared: Vec<_> = fields.intersection(others).filter(|field| field.as_str() != BUNDLE[1]).collect();
                if !shared.is_empty() {
                    wrong.push(format!("{}: {one} and {other} both own {shared:?}", told(object)));
                }
            }
        }
    }
    wrong
}

/// Whether this owner may own this field. The owner's name begins with its field manager.
fn is_of(owner: &str, field: &str) -> bool {
    match owner.split(' ').next().unwrap() {
        HELM => !field.starts_with("/f:status") && field != BUNDLE[0],
        "pullcred-controller" => field.starts_with("/f:status") || BUNDLE.contains(&field),
        "kube-controller-manager" | "validatingadmissionpolicy-status" => {
            field.starts_with("/f:status") || field.ends_with("/f:deployment.kubernetes.io/revision")
        }
        _ => false,
    }
}

/// The fields without further fields in them, by owner: field manager, operation, and subresource.
fn owners(object: &DynamicObject) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners = BTreeMap::new();
    for entry in object.managed_fields() {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let owner = format!("{} ({} {})", text(&entry.manager), text(&entry.operation), text(&entry.subresource));
        let fields: &mut BTreeSet<String> = owners.entry(owner).or_default();
        if let Some(all) = &entry.fields_v1 {
            collect(&all.0, "", fields);
        }
    }
    owners
}

fn collect(fields: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, below) in fields.as_object().into_iter().flatten() {
        match below.as_object() {
            // `.` says that the thing is there at all, which several may want.
            _ if name == "." => {}
            Some(below) if !below.is_empty() => collect(&fields[name], &format!("{path}/{name}"), into),
            _ => drop(into.insert(format!("{path}/{name}"))),
        }
    }
}

/// Kind and name.
pub fn told(object: &DynamicObject) -> String {
    format!("{} {}", object.types.as_ref().map_or("?", |types| types.kind.as_str()), object.name_any())
}
