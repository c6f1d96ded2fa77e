//! The AdmissionReview envelope: what of a request is read, and how an answer is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};

use super::json::{Members, Reader, Unreadable};
use super::pod::PodView;

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
        reader.end().map_err(Some)?;
        let request = envelope.request;
        let (Ok(version), Some(uid), Some(pod)) = (
            Version::parse(envelope.api_version.as_deref()),
            request.uid.filter(|uid| !uid.is_empty()),
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
        // Go reads what is not Unicode as U+FFFD; such bytes can only stand inside strings.
        let text = String::from_utf8_lossy(body);
        let IgnoredAny = serde_json::from_str(&text)
            .map_err(|error| NoReview::NotJson { line: error.line(), column: error.column() })?;
        let review = members(text.as_bytes());
        let request = review.get("request").copied().map(members).unwrap_or_default();
        let uid = text_of(&request, "uid").filter(|uid| !uid.is_empty()).ok_or(NoReview::NoUid)?;

        let resource = request.get("resource").copied().map(members).unwrap_or_default();
        let creates_a_pod = creates_a_pod(
            text_of(&request, "operation").as_deref(),
            text_of(&resource, "group").as_deref(),
            text_of(&resource, "resource").as_deref(),
            text_of(&request, "subResource").as_deref(),
        );
        let version = Version::parse(text_of(&review, "apiVersion").as_deref());
        // Nothing is patched on the strength of a request that is not wholly readable: say what is wrong and allow.
        let wrong = match (&version, request.get("object").copied().map(PodView::read)) {
            (Err(wrong), _) => wrong.clone(),
            (_, Some(Err(error))) => error.to_string(),
            (_, None) => "request.object is missing".to_owned(),
            (_, Some(Ok(_))) => "request has a field of the wrong type, or text that is not Unicode".to_owned(),
        };
        Ok(Self {
            version: version.unwrap_or_default(),
            uid: Cow::Owned(uid),
            namespace: Cow::Owned(text_of(&request, "namespace").unwrap_or_default()),
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

/// The members of an object as they are written, which need not be of the right type; none if it is no object. The last of
/// repeated names counts.
fn members(json: &[u8]) -> BTreeMap<String, &[u8]> {
    let mut members = Written::default();
    match Reader::new(json).object(&mut members) {
        Ok(_) => members.0,
        Err(_) => BTreeMap::new(),
    }
}

#[derive(Default)]
struct Written<'a>(BTreeMap<String, &'a [u8]>);

impl<'de> Members<'de> for Written<'de> {
    const PLACE: &'static str = "";

    fn member(&mut self, key: &[u8], json: &mut Reader<'de>) -> Result<(), Unreadable> {
        self.0.insert(String::from_utf8_lossy(key).into_owned(), json.raw()?);
        Ok(())
    }
}

/// A string member. A lone surrogate is not Unicode; Go reads it as U+FFFD, and an identifier never holds one.
fn text_of(members: &BTreeMap<String, &[u8]>, name: &str) -> Option<String> {
    let text = Reader::new(members.get(name)?).text("").ok()??;
    Some(text.into_owned())
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
#[derive(Debug, PartialEq, Eq, Serialize)]
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
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            api_version: &'static str,
            kind: &'static str,
            response: Fields<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields<'a> {
            uid: &'a str,
            allowed: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            patch_type: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            patch: Option<Base64<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            audit_annotations: Option<AuditAnnotations>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            warnings: &'a [String],
        }
        let answer = Answer {
            api_version: version.as_str(),
            kind: "AdmissionReview",
            response: Fields {
                uid,
                allowed: true,
                patch_type: self.patch.map(|_| "JSONPatch"),
                patch: self.patch.map(Base64),
                audit_annotations: self.audit_annotations,
                warnings: self.warnings,
            },
        };
        let mut bytes = Vec::with_capacity(512);
        // Strings and structs written to memory: there is nothing that could fail.
        let written = serde_json::to_writer(&mut bytes, &answer);
        debug_assert!(written.is_ok());
        bytes
    }
}

/// Bytes that are written as base64 text, without a copy.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}
