//! Reading the few members of a large JSON document that matter, in one pass, borrowed, without storing the rest.
//!
//! serde's derive refuses a repeated key and quotes values in its errors. Here the last of repeated keys counts, as in
//! Go, and an error names the place and never the value.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a reader wants of one JSON object.
pub(super) trait Members<'de> {
    /// The object's place in the document, for errors: `spec.containers[]`.
    const PLACE: &'static str;

    /// Called before the first member, and in place of any for `null`: forgets what an earlier value of a repeated key left.
    fn begin(&mut self) {}

    /// Called with each key. Must take the value from `map`; [`skip`] does so for those of no interest.
    fn member<A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<(), A::Error>;

    /// Called after the last member.
    fn end(&mut self) {}
}

/// Passes over a value without looking into it, however deep it is.
pub(super) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Makes each kind of JSON value that a visitor does not want an error that names place and kind, and not the value.
macro_rules! refuse {
    ($wanted:literal: $($kind:ident)*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($wanted)
        }
        $(refuse!(@$kind $wanted);)*
    };
    (@bool $wanted:literal) => { refuse!(@fn visit_bool bool => $wanted "true or false"); };
    (@number $wanted:literal) => {
        refuse!(@fn visit_i64 i64 => $wanted "a number");
        refuse!(@fn visit_u64 u64 => $wanted "a number");
        refuse!(@fn visit_f64 f64 => $wanted "a number");
    };
    (@text $wanted:literal) => { refuse!(@fn visit_str &str => $wanted "a string"); };
    (@fn $method:ident $type:ty => $wanted:literal $found:literal) => {
        fn $method<E: Error>(self, _: $type) -> Result<Self::Value, E> {
            Err(wrong(self.place(), $wanted, $found))
        }
    };
    (@list $wanted:literal) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(wrong(self.place(), $wanted, "a list"))
        }
    };
    (@object $wanted:literal) => {
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(wrong(self.place(), $wanted, "an object"))
        }
    };
}

fn wrong<E: Error>(place: &str, wanted: &str, found: &str) -> E {
    E::custom(format_args!("{place} is {found} where {wanted} belongs"))
}

/// Reads an object, or `null`, into its [`Members`]. The value says whether an object was there.
pub(super) struct Object<'m, M>(pub(super) &'m mut M);

impl<'de, M: Members<'de>> Object<'_, M> {
    // The macro asks every visitor for its place.
    #[allow(clippy::unused_self)]
    fn place(&self) -> &'static str {
        M::PLACE
    }
}

impl<'de, M: Members<'de>> DeserializeSeed<'de> for Object<'_, M> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
    type Value = bool;

    refuse!("an object": bool number text list);

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        self.0.begin();
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        self.0.begin();
        while let Some(key) = map.next_key_seed(Key)? {
            self.0.member(&key, &mut map)?;
        }
        self.0.end();
        Ok(true)
    }
}

/// Reads a list of objects, or `null`, handing each to the same [`Members`]. The value says whether a list was there.
pub(super) struct List<'m, M>(pub(super) &'static str, pub(super) &'m mut M);

impl<M> List<'_, M> {
    fn place(&self) -> &'static str {
        self.0
    }
}

impl<'de, M: Members<'de>> DeserializeSeed<'de> for List<'_, M> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for List<'_, M> {
    type Value = bool;

    refuse!("a list": bool number text object);

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        while items.next_element_seed(Object(&mut *self.1))?.is_some() {}
        Ok(true)
    }
}

/// Reads a string; `null` is none.
pub(super) struct Text(pub(super) &'static str);

impl Text {
    fn place(&self) -> &'static str {
        self.0
    }
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    refuse!("a string": bool number list object);

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }
}

/// Reads a member's name as bytes: a name that is not Unicode is none of ours, and no error.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_bytes<E: Error>(self, name: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    // serde_json hands a key over as text in some of its paths.
    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name.as_bytes()))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.as_bytes().to_owned()))
    }
}
