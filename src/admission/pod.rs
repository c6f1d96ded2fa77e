//! What of a Pod decides: its images, the pull secrets it has, and whether it is a mirror Pod. The rest is passed over.

use std::borrow::Cow;

use super::json::{Members, Reader, Unreadable};

/// Set by the kubelet on the API's image of a static Pod. A mirror Pod that references a Secret is refused by the API
/// server (plugin/pkg/admission/noderestriction in Kubernetes).
const MIRROR: &[u8] = b"kubernetes.io/config.mirror";

/// Most images, and most pull secrets, of a Pod that is read: each takes 32 bytes, and a body of 8 MiB may hold 600,000. What
/// etcd stores, 1.5 MiB, holds fewer than 10,000 containers.
const MOST: usize = 20_000;

/// The part of a Pod that is read, borrowed from the review's bytes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PodView<'a> {
    name: Option<Cow<'a, str>>,
    generate_name: Option<Cow<'a, str>>,
    pub(super) is_mirror: bool,
    images: Vec<Image<'a>>,
    /// Names of the pull secrets; entries without a name are not kept. `None` when the field is absent or null.
    pub(super) pull_secrets: Option<Vec<Cow<'a, str>>>,
}

/// The places of a Pod that hold images, so that a repeated key replaces what the first one gave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Containers,
    InitContainers,
    EphemeralContainers,
    Volumes,
}

#[derive(Debug, PartialEq)]
struct Image<'a> {
    place: Place,
    reference: Cow<'a, str>,
}

impl<'a> PodView<'a> {
    /// Reads a Pod from JSON; the error names the place that cannot be read.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, Unreadable> {
        let mut pod = Self::default();
        let mut reader = Reader::new(json);
        let there = reader.object(&mut pod)?;
        reader.end()?;
        let absent = Unreadable::Wrong { place: Self::PLACE, found: "null", wanted: "an object" };
        if there { Ok(pod) } else { Err(absent) }
    }

    /// All image references, as written, from all five places (sidecars are init containers).
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.reference.as_ref())
    }

    /// The name, or for a Pod that the API server has yet to name, the stem of it with a star.
    pub(super) fn display_name(&self) -> Cow<'a, str> {
        match (&self.name, &self.generate_name) {
            (Some(name), _) if !name.is_empty() => name.clone(),
            // No name is longer, and this one is only told.
            (_, Some(stem)) => Cow::Owned(stem.chars().take(253).chain(['*']).collect()),
            _ => Cow::Borrowed(""),
        }
    }

    /// Whether the Pod already names this pull secret.
    pub(super) fn names_secret(&self, secret: &str) -> bool {
        self.pull_secrets.iter().flatten().any(|name| name == secret)
    }
}

impl<'de> Members<'de> for PodView<'de> {
    const PLACE: &'static str = "request.object";

    fn begin(&mut self) {
        *self = Self::default();
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"metadata" => json.object(&mut Metadata(self)).map(drop),
            b"spec" => json.object(&mut Spec(self)).map(drop),
            _ => Ok(json.skip()?),
        }
    }
}

struct Metadata<'p, 'a>(&'p mut PodView<'a>);

impl<'de> Members<'de> for Metadata<'_, 'de> {
    const PLACE: &'static str = "metadata";

    fn begin(&mut self) {
        self.0.name = None;
        self.0.generate_name = None;
        self.0.is_mirror = false;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"name" => self.0.name = json.text("metadata.name")?,
            b"generateName" => self.0.generate_name = json.text("metadata.generateName")?,
            b"annotations" => {
                json.object(&mut Annotations(&mut self.0.is_mirror))?;
            }
            _ => json.skip()?,
        }
        Ok(())
    }
}

struct Annotations<'p>(&'p mut bool);

impl<'de> Members<'de> for Annotations<'_> {
    const PLACE: &'static str = "metadata.annotations";

    fn begin(&mut self) {
        *self.0 = false;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        *self.0 |= key == MIRROR;
        Ok(json.skip()?)
    }
}

struct Spec<'p, 'a>(&'p mut PodView<'a>);

impl<'de> Spec<'_, 'de> {
    fn containers(&mut self, json: &mut Reader<'de>, field: &'static str, place: Place) -> Result<(), Unreadable> {
        self.0.images.retain(|image| image.place != place);
        let mut container = Container { images: &mut self.0.images, place, image: None };
        json.list(field, &mut container).map(drop)
    }
}

impl<'de> Members<'de> for Spec<'_, 'de> {
    const PLACE: &'static str = "spec";

    fn begin(&mut self) {
        self.0.images.clear();
        self.0.pull_secrets = None;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"containers" => self.containers(json, "spec.containers", Place::Containers),
            b"initContainers" => self.containers(json, "spec.initContainers", Place::InitContainers),
            b"ephemeralContainers" => self.containers(json, "spec.ephemeralContainers", Place::EphemeralContainers),
            b"volumes" => {
                self.0.images.retain(|image| image.place != Place::Volumes);
                let mut volume = Volume { images: &mut self.0.images, reference: None };
                json.list("spec.volumes", &mut volume).map(drop)
            }
            b"imagePullSecrets" => {
                let mut secret = SecretReference { names: Vec::new(), name: None };
                let listed = json.list("spec.imagePullSecrets", &mut secret)?;
                self.0.pull_secrets = listed.then_some(secret.names);
                Ok(())
            }
            _ => Ok(json.skip()?),
        }
    }
}

/// A container, whichever list it is in.
struct Container<'p, 'a> {
    images: &'p mut Vec<Image<'a>>,
    place: Place,
    image: Option<Cow<'a, str>>,
}

impl<'de> Members<'de> for Container<'_, 'de> {
    const PLACE: &'static str = "a container";

    fn begin(&mut self) {
        self.image = None;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"image" => self.image = json.text("a container's image")?,
            _ => json.skip()?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        keep(self.images, "the Pod's images", self.image.take().map(|reference| Image { place: self.place, reference }))
    }
}

struct Volume<'p, 'a> {
    images: &'p mut Vec<Image<'a>>,
    reference: Option<Cow<'a, str>>,
}

impl<'de> Members<'de> for Volume<'_, 'de> {
    const PLACE: &'static str = "a volume";

    fn begin(&mut self) {
        self.reference = None;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"image" => json.object(&mut ImageVolume(&mut self.reference)).map(drop),
            _ => Ok(json.skip()?),
        }
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        let image = self.reference.take().map(|reference| Image { place: Place::Volumes, reference });
        keep(self.images, "the Pod's images", image)
    }
}

struct ImageVolume<'p, 'a>(&'p mut Option<Cow<'a, str>>);

impl<'de> Members<'de> for ImageVolume<'_, 'de> {
    const PLACE: &'static str = "a volume's image";

    fn begin(&mut self) {
        *self.0 = None;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"reference" => *self.0 = json.text("a volume's image.reference")?,
            _ => json.skip()?,
        }
        Ok(())
    }
}

/// One entry of `imagePullSecrets`; `{}` is legal and names nothing.
struct SecretReference<'a> {
    names: Vec<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
}

impl<'de> Members<'de> for SecretReference<'de> {
    const PLACE: &'static str = "an entry of spec.imagePullSecrets";

    fn begin(&mut self) {
        self.name = None;
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"name" => self.name = json.text("the name of an image pull secret")?,
            _ => json.skip()?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        keep(&mut self.names, "spec.imagePullSecrets", self.name.take())
    }
}

fn keep<T>(list: &mut Vec<T>, place: &'static str, item: Option<T>) -> Result<(), Unreadable> {
    let Some(item) = item else { return Ok(()) };
    if list.len() == MOST {
        return Err(Unreadable::TooMany { place, most: MOST });
    }
    list.push(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(json: &str) -> Vec<String> {
        PodView::read(json.as_bytes()).unwrap().images().map(str::to_owned).collect()
    }

    #[test]
    fn images_are_found_in_all_five_places() {
        let pod = r#"{"spec":{
            "volumes":[{"name":"v","image":{"pullPolicy":"Always","reference":"r.io/volume"}},{"emptyDir":{}}],
            "initContainers":[{"image":"r.io/init"},{"image":"r.io/sidecar","restartPolicy":"Always"}],
            "containers":[{"name":"a","image":"r.io/app"},{"name":"no image"}],
            "ephemeralContainers":[{"image":"r.io/debug"}]}}"#;
        assert_eq!(images(pod), ["r.io/volume", "r.io/init", "r.io/sidecar", "r.io/app", "r.io/debug"]);
    }

    #[test]
    fn the_last_of_repeated_keys_counts() {
        assert_eq!(images(r#"{"spec":{"containers":[{"image":"a"}]},"spec":{"containers":[{"image":"b"}]}}"#), ["b"]);
        assert_eq!(
            images(r#"{"spec":{"containers":[{"image":"a"}],"containers":[{"image":"b","image":"c"}]}}"#),
            ["c"]
        );
        assert_eq!(images(r#"{"spec":{"containers":[{"image":"a"}],"containers":null}}"#), [""; 0]);
        assert_eq!(images(r#"{"spec":{"containers":[{"image":"a"}]},"spec":null}"#), [""; 0]);
        let pod = PodView::read(br#"{"spec":{"imagePullSecrets":[{"name":"a"}],"imagePullSecrets":null}}"#).unwrap();
        assert_eq!(pod.pull_secrets, None);
    }

    #[test]
    fn an_absent_list_of_secrets_differs_from_an_empty_one() {
        let secrets = |json: &'static str| PodView::read(json.as_bytes()).unwrap().pull_secrets;
        assert_eq!(secrets(r#"{"spec":{}}"#), None);
        assert_eq!(secrets(r#"{"spec":{"imagePullSecrets":null}}"#), None);
        assert_eq!(secrets(r#"{"spec":{"imagePullSecrets":[]}}"#), Some(vec![]));
        assert_eq!(secrets(r#"{"spec":{"imagePullSecrets":[{}]}}"#), Some(vec![]));
        assert_eq!(secrets(r#"{"spec":{"imagePullSecrets":[{},{"name":"a"},null]}}"#), Some(vec!["a".into()]));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        let error = |json: &str| PodView::read(json.as_bytes()).unwrap_err().to_string();
        for (json, place) in [
            (r#"{"spec":{"containers":{"a":"hush"}}}"#, "spec.containers is an object where a list belongs"),
            (r#"{"spec":{"containers":["hush"]}}"#, "a container is a string where an object belongs"),
            (r#"{"spec":{"containers":[{"image":7}]}}"#, "a container's image is a number where a string belongs"),
            (r#"{"spec":{"imagePullSecrets":"hush"}}"#, "spec.imagePullSecrets is a string where a list belongs"),
            (r#"{"spec":[]}"#, "spec is a list where an object belongs"),
            (r#"{"metadata":{"annotations":true}}"#, "metadata.annotations is true or false where an object belongs"),
        ] {
            assert!(error(json).starts_with(place), "{}", error(json));
            assert!(!error(json).contains("hush"), "{}", error(json));
        }
    }

    #[test]
    fn a_pod_of_more_images_or_secrets_than_any_is_not_read() {
        for (list, item, place) in [
            ("containers", r#"{"image":"a"}"#, "the Pod's images"),
            ("volumes", r#"{"image":{"reference":"a"}}"#, "the Pod's images"),
            ("imagePullSecrets", r#"{"name":"a"}"#, "spec.imagePullSecrets"),
        ] {
            let pod = |count| format!(r#"{{"spec":{{"{list}":[{}]}}}}"#, vec![item; count].join(","));
            assert!(PodView::read(pod(MOST).as_bytes()).is_ok(), "{list}");
            let error = PodView::read(pod(MOST + 1).as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("{place} holds more than 20000, which no Pod does"));
        }
    }

    #[test]
    fn a_mirror_pod_is_known_by_its_annotation_alone() {
        let mirror = |json: &str| PodView::read(json.as_bytes()).unwrap().is_mirror;
        assert!(mirror(r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":"hash"}}}"#));
        assert!(!mirror(r#"{"metadata":{"annotations":{"kubernetes.io/config.mirrors":""}}}"#));
        assert!(!mirror(r#"{"metadata":{"labels":{"kubernetes.io/config.mirror":""}}}"#));
    }

    #[test]
    fn a_pod_without_a_name_shows_the_stem_it_will_get() {
        let name = |json: &str| PodView::read(json.as_bytes()).unwrap().display_name().into_owned();
        assert_eq!(name(r#"{"metadata":{"name":"app","generateName":"x-"}}"#), "app");
        assert_eq!(name(r#"{"metadata":{"generateName":"app-7d9-"}}"#), "app-7d9-*");
        assert_eq!(name("{}"), "");
    }
}
