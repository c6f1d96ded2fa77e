//! The AdmissionReview envelope: what of a request is read, and how an answer is written.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::{Members, Reader, Unreadable, put_text};
use super::pod::PodView;

/// Longest uid that is answered to. The API server's have 36 characters; an answer repeats it, and must stay small however
/// large a body is.
const UID_LENGTH: usize = 512;

/// The versions of AdmissionReview that the API server may ask in (admissionregistration.k8s.io `admissionReviewVersions`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    V1,
    V1Beta1,
}

impl Version {
    fn parse(api_version: Option<&str>) -> Result<Self, String> {
        match api_version {
            Some("admission.k8s.io/v1") => Ok(Self::V1),
            Some("admission.k8s.io/v1beta1") => Ok(Self::V1Beta1),
            _ => Err("apiVersion is neither admission.k8s.io/v1 nor admission.k8s.io/v1beta1".to_owned()),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// One request, as far as it concerns us. The unset fields of a request that could not be read are empty.
#[derive(Debug)]
pub(super) struct Review<'a> {
    pub(super) version: Version,
    pub(super) uid: Cow<'a, str>,
    pub(super) namespace: Cow<'a, str>,
    /// Whether this is the creation of a Pod: the only request that is answered with a patch.
    pub(super) creates_a_pod: bool,
    /// The Pod, or what kept it from being read.
    pub(super) pod: Result<PodView<'a>, String>,
}

/// Why a body cannot be answered by an AdmissionReview: there is no uid to answer to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReview {
    #[error("the body is empty: an AdmissionReview in JSON belongs here")]
    Empty,
    #[error("the body is not JSON (line {line}, column {column}): an AdmissionReview belongs here")]
    NotJson { line: usize, column: usize },
    #[error("the body has no request.uid, so there is no review to answer: an AdmissionReview belongs here")]
    NoUid,
    #[error("request.uid is longer than {UID_LENGTH} bytes, which no uid is: an AdmissionReview belongs here")]
    LongUid,
}

impl<'a> Review<'a> {
    /// Reads a request body.
    ///
    /// The usual body is read in one borrowed pass. One in which anything is not as it should be is read again, part by
    /// part, to find the uid that makes an answer possible.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, NoReview> {
        Self::read_whole(body).map_or_else(|_| Self::read_parts(body), Ok)
    }

    fn read_whole(body: &'a [u8]) -> Result<Self, Option<Unreadable>> {
        let mut envelope = Envelope::default();
        let mut reader = Reader::new(body);
        reader.object(&mut envelope).map_err(Some)?;
        reader.end().map_err(|broken| Some(broken.into()))?;
        let request = envelope.request;
        let (Ok(version), Some(uid), Some(pod)) = (
            Version::parse(envelope.api_version.as_deref()),
            request.uid.filter(|uid| (1..=UID_LENGTH).contains(&uid.len())),
            request.object,
        ) else {
            return Err(None);
        };
        let creates_a_pod = creates_a_pod(
            request.operation.as_deref(),
            request.resource.group.as_deref(),
            request.resource.resource.as_deref(),
            request.sub_resource.as_deref(),
        );
        Ok(Self { version, uid, namespace: request.namespace.unwrap_or_default(), creates_a_pod, pod: Ok(pod) })
    }

    fn read_parts(body: &'a [u8]) -> Result<Self, NoReview> {
        if body.is_empty() {
            return Err(NoReview::Empty);
        }
        let mut whole = Reader::new(body);
        if whole.skip().and_then(|()| whole.end()).is_err() {
            let (line, column) = whole.line_and_column();
            return Err(NoReview::NotJson { line, column });
        }
        let [api_version, request] = members(body, ["apiVersion", "request"]);
        let [uid, namespace, operation, resource, sub_resource, object] =
            members(request, ["uid", "namespace", "operation", "resource", "subResource", "object"]);
        let [group, resource] = members(resource, ["group", "resource"]);
        let uid = text(uid).filter(|uid| !uid.is_empty()).ok_or(NoReview::NoUid)?;
        if uid.len() > UID_LENGTH {
            return Err(NoReview::LongUid);
        }

        let creates_a_pod = creates_a_pod(
            text(operation).as_deref(),
            text(group).as_deref(),
            text(resource).as_deref(),
            text(sub_resource).as_deref(),
        );
        let version = Version::parse(text(api_version).as_deref());
        // Nothing is patched on the strength of a request that is not wholly readable: say what is wrong and allow.
        let wrong = match &version {
            Err(wrong) => wrong.clone(),
            _ if object.is_empty() => "request.object is missing".to_owned(),
            _ => match PodView::read(object) {
                Err(error) => error.to_string(),
                Ok(_) => "request has a field of the wrong type, or text that is not Unicode".to_owned(),
            },
        };
        Ok(Self {
            version: version.unwrap_or_default(),
            uid: Cow::Owned(uid),
            namespace: Cow::Owned(text(namespace).unwrap_or_default()),
            creates_a_pod,
            pod: Err(wrong),
        })
    }
}

/// Whether a request creates a Pod. Everything else that a webhook configuration may send here is left alone: a patch on
/// UPDATE would keep finalizers from being removed, and subresources carry other objects.
fn creates_a_pod(
    operation: Option<&str>,
    group: Option<&str>,
    resource: Option<&str>,
    sub_resource: Option<&str>,
) -> bool {
    operation == Some("CREATE")
        && group.unwrap_or_default().is_empty()
        && resource == Some("pods")
        && sub_resource.unwrap_or_default().is_empty()
}

#[derive(Default)]
struct Envelope<'a> {
    api_version: Option<Cow<'a, str>>,
    request: Request<'a>,
}

impl<'de> Members<'de> for Envelope<'de> {
    const PLACE: &'static str = "the body";

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"apiVersion" => self.api_version = json.text("apiVersion")?,
            b"request" => {
                json.object(&mut self.request)?;
            }
            _ => json.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Request<'a> {
    uid: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    operation: Option<Cow<'a, str>>,
    resource: Resource<'a>,
    sub_resource: Option<Cow<'a, str>>,
    object: Option<PodView<'a>>,
}

impl<'de> Members<'de> for Request<'de> {
    const PLACE: &'static str = "request";

    fn begin(&mut self) {
        *self = Self::default();
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"uid" => self.uid = json.text("request.uid")?,
            b"namespace" => self.namespace = json.text("request.namespace")?,
            b"operation" => self.operation = json.text("request.operation")?,
            b"resource" => {
                json.object(&mut self.resource)?;
            }
            b"subResource" => self.sub_resource = json.text("request.subResource")?,
            b"object" => {
                let mut pod = PodView::default();
                self.object = json.object(&mut pod)?.then_some(pod);
            }
            _ => json.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Resource<'a> {
    group: Option<Cow<'a, str>>,
    resource: Option<Cow<'a, str>>,
}

impl<'de> Members<'de> for Resource<'de> {
    const PLACE: &'static str = "request.resource";

    fn begin(&mut self) {
        *self = Self::default();
    }

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        match key {
            b"group" => self.group = json.text("request.resource.group")?,
            b"resource" => self.resource = json.text("request.resource.resource")?,
            _ => json.skip()?,
        }
        Ok(())
    }
}

/// The members of these names of an object, as they are written, which need not be of the right type: nothing where there is
/// none, or no object. The last of repeated names counts.
fn members<'a, const N: usize>(object: &'a [u8], names: [&'static str; N]) -> [&'a [u8]; N] {
    let mut members = Written { names, values: [&[]; N] };
    // What is read was found to be JSON, so an error says that it is no object, and then nothing has been found.
    let _ = Reader::new(object).object(&mut members);
    members.values
}

/// No more than what is asked for is kept: a body may have a million members.
struct Written<'a, const N: usize> {
    names: [&'static str; N],
    values: [&'a [u8]; N],
}

impl<'de, const N: usize> Members<'de> for Written<'de, N> {
    const PLACE: &'static str = "";

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        let value = json.raw()?;
        if let Some(found) = self.names.iter().position(|name| name.as_bytes() == key) {
            self.values[found] = value;
        }
        Ok(())
    }
}

/// A string, where one is written.
fn text(json: &[u8]) -> Option<String> {
    Reader::new(json).lossy()
}

/// What is answered to a review. Everything is allowed: pullcred adds, it never refuses.
#[derive(Default)]
pub(super) struct Response<'a> {
    /// The JSON patch; `None` leaves the Pod as it is.
    pub(super) patch: Option<&'a [u8]>,
    pub(super) audit_annotations: Option<AuditAnnotations>,
    pub(super) warnings: &'a [String],
}

/// What the audit log keeps of a Pod that a rule matched; the API server prefixes the keys with the webhook's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuditAnnotations {
    /// The matched rules, comma-separated, `namespace/name` for a PullSecret.
    pub(super) rules: String,
    /// The Secrets that they give, comma-separated.
    pub(super) secrets: String,
}

impl Response<'_> {
    /// Writes the AdmissionReview that answers the request of this uid in the version it asked in
    /// (k8s.io/api/admission/v1, type `AdmissionResponse`).
    pub(super) fn write(self, version: Version, uid: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(br#"{"apiVersion":""#);
        out.extend_from_slice(version.as_str().as_bytes());
        out.extend_from_slice(br#"","kind":"AdmissionReview","response":{"uid":"#);
        put_text(&mut out, uid);
        out.extend_from_slice(br#","allowed":true"#);
        if let Some(patch) = self.patch {
            out.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            put_base64(&mut out, patch);
            out.push(b'"');
        }
        if let Some(AuditAnnotations { rules, secrets }) = self.audit_annotations {
            out.extend_from_slice(br#","auditAnnotations":{"rules":"#);
            put_text(&mut out, &rules);
            out.extend_from_slice(br#","secrets":"#);
            put_text(&mut out, &secrets);
            out.push(b'}');
        }
        if let [first, others @ ..] = self.warnings {
            out.extend_from_slice(br#","warnings":["#);
            put_text(&mut out, first);
            for warning in others {
                out.push(b',');
                put_text(&mut out, warning);
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}}");
        out
    }
}

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    // Four characters for three bytes, the last of them padded.
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    /// JSON whose objects may hold a name twice.
    #[derive(Debug, Clone)]
    enum Json {
        Literal(&'static str),
        Text(String),
        List(Vec<Json>),
        Object(Vec<(String, Json)>),
    }

    /// What stands where the API server would put something else.
    fn anything() -> impl Strategy<Value = Json> {
        let literals =
            ["null", "true", "false", "0", "-1.5e3", "[]", "{}", r#""""#, "[[{}]]", r#"[null,{"image":"x"}]"#];
        prop_oneof![select(literals.to_vec()).prop_map(Json::Literal), any::<String>().prop_map(Json::Text)]
    }

    fn object(members: Vec<(&'static str, BoxedStrategy<Json>)>) -> BoxedStrategy<Json> {
        // Each member is absent, there, there twice, or something else, in any order among the others.
        let names: Vec<&'static str> = members.iter().map(|(name, _)| *name).collect();
        let values = members.into_iter().map(|(_, value)| {
            prop_oneof![
                1 => Just(vec![]),
                12 => value.clone().prop_map(|value| vec![value]),
                1 => (value.clone(), value.clone()).prop_map(|(first, second)| vec![first, second]),
                1 => anything().prop_map(|value| vec![value]),
                1 => (value, anything()).prop_map(|(value, odd)| vec![odd, value]),
            ]
        });
        (values.collect::<Vec<_>>(), vec((".{0,8}", anything()), 0..3))
            .prop_map(move |(values, others)| {
                let pairs = names.iter().zip(values);
                let members =
                    pairs.flat_map(|(name, values)| values.into_iter().map(|value| ((*name).to_owned(), value)));
                members.chain(others).collect::<Vec<_>>()
            })
            .prop_shuffle()
            .prop_map(Json::Object)
            .boxed()
    }

    fn list(item: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
        vec(prop_oneof![9 => item, 1 => Just(Json::Literal("null"))], 0..3).prop_map(Json::List).boxed()
    }

    fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<Json> {
        prop_oneof![9 => select(texts).prop_map(|text| Json::Text(text.to_owned())), 1 => any::<String>().prop_map(Json::Text)]
            .boxed()
    }

    fn reviews() -> BoxedStrategy<Json> {
        let image = || one_of(&["r.io/app", "", "r.io/\u{e4}\u{1f600}"]);
        let containers = || list(object(vec![("image", image()), ("name", one_of(&["c"]))]));
        let pod = object(vec![
            (
                "metadata",
                object(vec![
                    ("name", one_of(&["app"])),
                    ("generateName", one_of(&["app-"])),
                    ("annotations", object(vec![("kubernetes.io/config.mirror", one_of(&["hash"]))])),
                ]),
            ),
            (
                "spec",
                object(vec![
                    ("containers", containers()),
                    ("initContainers", containers()),
                    ("ephemeralContainers", containers()),
                    ("volumes", list(object(vec![("image", object(vec![("reference", image())]))]))),
                    ("imagePullSecrets", list(object(vec![("name", one_of(&["own", "regcred"]))]))),
                ]),
            ),
        ]);
        let resource = object(vec![("group", one_of(&[""])), ("resource", one_of(&["pods"]))]);
        let request = object(vec![
            ("uid", one_of(&["705ab4f5-6393-11e8-b7cc-42010a800002"])),
            ("namespace", one_of(&["team"])),
            ("operation", one_of(&["CREATE"])),
            ("resource", resource),
            ("subResource", one_of(&[""])),
            ("object", pod),
        ]);
        object(vec![("apiVersion", one_of(&["admission.k8s.io/v1", "admission.k8s.io/v1beta1"])), ("request", request)])
    }

    /// Writes it, with blanks and escapes as the numbers say.
    fn write(json: &Json, choices: &mut impl Iterator<Item = u8>, out: &mut String) {
        let mut next = || choices.next().unwrap_or_default();
        out.push_str(["", "", "", " ", "\n", "\t\r"][usize::from(next() % 6)]);
        match json {
            Json::Literal(literal) => out.push_str(literal),
            Json::Text(text) => {
                let escape_all = next() % 8 == 0;
                out.push('"');
                for character in text.chars() {
                    match character {
                        '"' | '\\' => out.extend(['\\', character]),
                        '\0'..='\x1f' => escape(out, u32::from(character)),
                        _ if escape_all => {
                            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape(out, u32::from(*unit)));
                        }
                        _ => out.push(character),
                    }
                }
                out.push('"');
            }
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    write(item, choices, out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    write(&Json::Text(name.clone()), choices, out);
                    out.push(':');
                    write(value, choices, out);
                }
                out.push('}');
            }
        }
    }

    fn escape(out: &mut String, unit: u32) {
        let digits = [12, 8, 4, 0].map(|shift| char::from_digit(unit >> shift & 15, 16).unwrap());
        out.push_str("\\u");
        out.extend(digits);
    }

    fn repeats_a_name(json: &Json) -> bool {
        match json {
            Json::Literal(_) | Json::Text(_) => false,
            Json::List(items) => items.iter().any(repeats_a_name),
            Json::Object(members) => {
                let names: std::collections::BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                names.len() < members.len() || members.iter().any(|(_, value)| repeats_a_name(value))
            }
        }
    }

    static NULL: Value = Value::Null;

    fn member<'v>(value: &'v Value, name: &str) -> Result<&'v Value, ()> {
        match value {
            Value::Null => Ok(&NULL),
            Value::Object(members) => Ok(members.get(name).unwrap_or(&NULL)),
            _ => Err(()),
        }
    }

    fn items(value: &Value) -> Result<Option<&[Value]>, ()> {
        match value {
            Value::Null => Ok(None),
            Value::Array(items) => Ok(Some(items)),
            _ => Err(()),
        }
    }

    fn string(value: &Value) -> Result<Option<&str>, ()> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(()),
        }
    }

    /// The names, whether it is a mirror Pod, images in any order, and pull secrets.
    type Seen = (String, bool, Vec<String>, Option<Vec<String>>);

    /// A Pod as it is read from the tree that `serde_json` makes of the whole.
    fn reference(pod: &Value) -> Result<Seen, ()> {
        let (metadata, spec) = (member(pod, "metadata")?, member(pod, "spec")?);
        let (name, stem) = (string(member(metadata, "name")?)?, string(member(metadata, "generateName")?)?);
        let annotations = member(metadata, "annotations")?;
        member(annotations, "")?;
        let mirror = annotations.get("kubernetes.io/config.mirror").is_some();
        let mut images = Vec::new();
        for place in ["containers", "initContainers", "ephemeralContainers"] {
            for container in items(member(spec, place)?)?.unwrap_or_default() {
                images.extend(string(member(container, "image")?)?.map(str::to_owned));
            }
        }
        for volume in items(member(spec, "volumes")?)?.unwrap_or_default() {
            images.extend(string(member(member(volume, "image")?, "reference")?)?.map(str::to_owned));
        }
        images.sort();
        let secrets = match items(member(spec, "imagePullSecrets")?)? {
            None => None,
            Some(entries) => {
                let mut names = Vec::new();
                for entry in entries {
                    names.extend(string(member(entry, "name")?)?.map(str::to_owned));
                }
                Some(names)
            }
        };
        let name = match (name, stem) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(stem)) => format!("{stem}*"),
            _ => String::new(),
        };
        Ok((name, mirror, images, secrets))
    }

    fn seen(pod: &PodView<'_>) -> Seen {
        let mut images: Vec<String> = pod.images().map(str::to_owned).collect();
        images.sort();
        let secrets =
            pod.pull_secrets.as_ref().map(|names| names.iter().map(|name| name.clone().into_owned()).collect());
        (pod.display_name().into_owned(), pod.is_mirror, images, secrets)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn a_review_is_read_as_serde_json_reads_it(
            json in reviews(),
            choices in vec(any::<u8>(), 0..400),
            change in proptest::option::of((any::<prop::sample::Index>(), proptest::option::of(any::<u8>()))),
        ) {
            let mut body = String::new();
            write(&json, &mut choices.into_iter(), &mut body);
            let mut body = body.into_bytes();
            let changed = change.is_some();
            match change {
                Some((at, Some(byte))) => {
                    let at = at.index(body.len());
                    body[at] = byte;
                }
                Some((at, None)) => body.truncate(at.index(body.len())),
                None => {}
            }
            let ours = Review::read(&body);
            if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
                prop_assert!(matches!(ours, Err(NoReview::NotJson { .. } | NoReview::Empty)), "{ours:?}");
                return Ok(());
            }
            // What is not Unicode it reads no tree of.
            let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
            let request = &value["request"];
            let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty() && uid.len() <= UID_LENGTH) else {
                prop_assert!(matches!(ours, Err(NoReview::NoUid | NoReview::LongUid)), "{ours:?}");
                return Ok(());
            };
            let ours = ours.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&*ours.uid, uid);
            prop_assert_eq!(&*ours.namespace, request["namespace"].as_str().unwrap_or_default());
            prop_assert_eq!(ours.creates_a_pod, request["operation"] == "CREATE"
                && request["resource"]["resource"] == "pods"
                && request["resource"]["group"].as_str().unwrap_or_default().is_empty()
                && request["subResource"].as_str().unwrap_or_default().is_empty());
            let version = Version::parse(value["apiVersion"].as_str());
            prop_assert_eq!(ours.version, version.clone().unwrap_or_default());

            let typed = || {
                let texts = ["uid", "namespace", "operation", "subResource"];
                texts.iter().try_for_each(|name| string(&request[name]).map(drop))?;
                ["group", "resource"].iter().try_for_each(|name| string(member(&request["resource"], name)?).map(drop))?;
                if request["object"].is_null() { Err(()) } else { reference(&request["object"]) }
            };
            match (&ours.pod, typed()) {
                (Ok(pod), theirs) => {
                    prop_assert!(version.is_ok());
                    prop_assert_eq!(Ok(seen(pod)), theirs);
                }
                // Of what is repeated the first may be what cannot be read.
                (Err(wrong), Ok(_)) => {
                    prop_assert!(version.is_err() || changed || repeats_a_name(&json), "{wrong}");
                }
                (Err(_), Err(())) => {}
            }
        }
    }

    #[test]
    fn where_a_body_stops_being_json_is_told() {
        for (body, line, column) in [
            ("hello", 1, 1),
            ("\u{feff}{}", 1, 1),
            ("\0", 1, 1),
            ("{}\0", 1, 3),
            ("{\"request\":{\"uid\":\"u\"}", 1, 23),
            ("{\n  \"request\": {},\n  oops\n}", 3, 3),
            ("{\"a\":1}\n}", 2, 1),
            ("{\"a\" 1}", 1, 6),
            ("[1 2]", 1, 4),
            ("{\"a\":01}", 1, 7),
        ] {
            let Err(NoReview::NotJson { line: l, column: c }) = Review::read(body.as_bytes()) else { panic!("{body}") };
            assert_eq!((l, c), (line, column), "{body}");
        }
    }

    #[test]
    fn a_uid_that_is_not_unicode_is_answered_as_go_reads_it_and_one_that_is_too_long_is_none() {
        for (uid, read) in [("\\ud800", "\u{fffd}"), ("u\\udc00x", "u\u{fffd}x")] {
            let body = format!(r#"{{"request":{{"uid":"{uid}"}}}}"#);
            assert_eq!(Review::read(body.as_bytes()).unwrap().uid, read);
        }
        assert_eq!(Review::read(b"{\"request\":{\"uid\":\"\xff\xfe\"}}").unwrap().uid, "\u{fffd}\u{fffd}");
        for (length, found) in [(UID_LENGTH, true), (UID_LENGTH + 1, false)] {
            let body = format!(r#"{{"request":{{"uid":"{}","object":{{}}}}}}"#, "u".repeat(length));
            assert_eq!(Review::read(body.as_bytes()).is_ok(), found, "{length}");
        }
    }
}
