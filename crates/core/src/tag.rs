//! Tags of instances: what people file them under, in words of their own (contract section 3.21).

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};
use crate::{Error, Field, Result};

/// Letters and digits of any language, spaces, and the signs that the cloud takes.
fn is_of_tags(character: char) -> bool {
    character.is_alphanumeric() || " _.:=+-@".contains(character)
}

fn refused(what: impl fmt::Display) -> Error {
    Error::parameter(Field::Tags, format!("tags: {what}"))
}

/// What an instance is filed under; once on each instance. Without `=`, at which a filter ends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagKey(String);

impl TagKey {
    pub fn parse(text: &str) -> Result<Self> {
        if !(1..=TAG_KEY_CHARS_MAX).contains(&text.chars().count()) {
            return Err(refused(format_args!("a key must have 1 to {TAG_KEY_CHARS_MAX} characters")));
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(refused("a key must not begin or end with a space"));
        }
        if !text.chars().all(|character| is_of_tags(character) && character != '=') {
            return Err(refused("a key may contain only letters, digits, spaces and any of _ . : + - @"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The rest of a tag; it may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagValue(String);

impl TagValue {
    pub fn parse(text: &str) -> Result<Self> {
        if text.chars().count() > TAG_VALUE_CHARS_MAX {
            return Err(refused(format_args!("a value must have at most {TAG_VALUE_CHARS_MAX} characters")));
        }
        if !text.chars().all(is_of_tags) {
            return Err(refused("a value may contain only letters, digits, spaces and any of _ . : = + - @"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tags of one instance, by their keys.
pub type Tags = BTreeMap<TagKey, TagValue>;

fn too_many() -> Error {
    refused(format_args!("an instance has at most {TAGS_MAX}; nothing was changed"))
}

/// Puts a pair beside those that were named before it.
fn add<V>(pairs: &mut BTreeMap<TagKey, V>, key: TagKey, value: V) -> Result<()> {
    if pairs.len() == TAGS_MAX {
        return Err(too_many());
    }
    match pairs.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(refused("a key comes twice; nothing was changed")),
    }
}

/// What somebody wants to become of the tags of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagChange {
    /// These beside the others; a key that is there gets the new value.
    Put(Tags),
    /// These away: whatever the value is, where none is given. What is not there is away.
    Remove(BTreeMap<TagKey, Option<TagValue>>),
    /// These and no others.
    Replace(Tags),
}

impl TagChange {
    pub fn put(pairs: Vec<(TagKey, TagValue)>) -> Result<Self> {
        Ok(Self::Put(named(pairs)?))
    }

    pub fn remove(pairs: Vec<(TagKey, Option<TagValue>)>) -> Result<Self> {
        Ok(Self::Remove(named(pairs)?))
    }

    /// None at all is a wish too.
    pub fn replace(pairs: Vec<(TagKey, TagValue)>) -> Result<Self> {
        let mut tags = Tags::new();
        pairs.into_iter().try_for_each(|(key, value)| add(&mut tags, key, value))?;
        Ok(Self::Replace(tags))
    }

    /// What the tags are afterwards.
    pub fn applied_to(&self, held: &Tags) -> Result<Tags> {
        let mut tags = held.clone();
        match self {
            Self::Put(new) => tags.extend(new.clone()),
            Self::Remove(gone) => tags.retain(|key, value| {
                gone.get(key).is_none_or(|wanted| wanted.as_ref().is_some_and(|wanted| wanted != value))
            }),
            Self::Replace(new) => tags.clone_from(new),
        }
        if tags.len() > TAGS_MAX { Err(too_many()) } else { Ok(tags) }
    }
}

fn named<V>(pairs: Vec<(TagKey, V)>) -> Result<BTreeMap<TagKey, V>> {
    let mut found = BTreeMap::new();
    pairs.into_iter().try_for_each(|(key, value)| add(&mut found, key, value))?;
    if found.is_empty() { Err(refused("must name at least one")) } else { Ok(found) }
}

/// A filter of a list: all of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagsWanted(BTreeMap<TagKey, Option<TagValue>>);

impl TagsWanted {
    /// `key=value,other=value`; a key without a value is there with any.
    pub fn parse(text: &str) -> Result<Self> {
        let mut wanted = BTreeMap::new();
        for pair in text.split(',').filter(|_| !text.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(value).filter(|value| !value.is_empty()).map(TagValue::parse).transpose()?;
            add(&mut wanted, TagKey::parse(key)?, value)?;
        }
        Ok(Self(wanted))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn admits(&self, tags: &Tags) -> bool {
        self.0.iter().all(|(key, wanted)| {
            tags.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Vec<(TagKey, TagValue)> {
        pairs
            .iter()
            .map(|(key, value)| (TagKey::parse(key).unwrap(), TagValue::parse(value).unwrap()))
            .collect()
    }

    fn held(pairs: &[(&str, &str)]) -> Tags {
        tags(pairs).into_iter().collect()
    }

    #[test]
    fn keys_and_values_at_every_edge() {
        for good in ["k", "Kostenstelle 7", "größe", "部门", "a.b:c+d-e_f@g"] {
            assert!(TagKey::parse(good).is_ok() && TagValue::parse(good).is_ok(), "{good}");
        }
        assert!(
            TagValue::parse("").is_ok() && TagValue::parse("a=b").is_ok() && TagValue::parse(" ").is_ok()
        );
        for bad in ["", " a", "a ", "a=b", "a,b", "a/b", "a\nb", "a\0", "a\u{202e}b", "<a>", "a&b"] {
            assert!(TagKey::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["a,b", "a/b", "a\nb", "a\u{1b}[0m", "<a>", "\"", "a&b"] {
            assert!(TagValue::parse(bad).is_err(), "{bad:?}");
        }
        for (length, is_key) in [(TAG_KEY_CHARS_MAX, true), (TAG_KEY_CHARS_MAX + 1, false)] {
            assert_eq!(TagKey::parse(&"ü".repeat(length)).is_ok(), is_key, "{length}");
        }
        for (length, is_value) in [(TAG_VALUE_CHARS_MAX, true), (TAG_VALUE_CHARS_MAX + 1, false)] {
            assert_eq!(TagValue::parse(&"ü".repeat(length)).is_ok(), is_value, "{length}");
        }
    }

    #[test]
    fn a_change_puts_removes_and_replaces() {
        let before = held(&[("a", "1"), ("b", "2")]);
        let put = TagChange::put(tags(&[("b", "3"), ("c", "")])).unwrap();
        assert_eq!(put.applied_to(&before).unwrap(), held(&[("a", "1"), ("b", "3"), ("c", "")]));
        let key = |key| TagKey::parse(key).unwrap();
        let value = |value| Some(TagValue::parse(value).unwrap());
        for (gone, left) in [
            (vec![(key("a"), None)], &[("b", "2")][..]),
            (vec![(key("a"), value("1")), (key("b"), value("1"))], &[("b", "2")]),
            (vec![(key("absent"), None)], &[("a", "1"), ("b", "2")]),
        ] {
            let remove = TagChange::remove(gone).unwrap();
            assert_eq!(remove.applied_to(&before).unwrap(), held(left));
        }
        let replace = TagChange::replace(tags(&[("z", "9")])).unwrap();
        assert_eq!(replace.applied_to(&before).unwrap(), held(&[("z", "9")]));
        assert_eq!(TagChange::replace(Vec::new()).unwrap().applied_to(&before).unwrap(), Tags::new());
        assert!(TagChange::put(Vec::new()).is_err() && TagChange::remove(Vec::new()).is_err());
        assert!(TagChange::put(tags(&[("a", "1"), ("a", "2")])).is_err());
        assert!(TagChange::put(tags(&[("a", "1"), ("A", "2")])).is_ok());
    }

    #[test]
    fn an_instance_has_so_many_tags_and_no_more() {
        let many = |from: usize, count: usize| {
            let pairs = (from..from + count).map(|at| format!("key-{at}"));
            pairs.map(|key| (TagKey::parse(&key).unwrap(), TagValue::from_stored("x"))).collect::<Vec<_>>()
        };
        let full: Tags = many(0, TAGS_MAX).into_iter().collect();
        assert_eq!(TagChange::put(many(0, TAGS_MAX)).unwrap().applied_to(&Tags::new()).unwrap(), full);
        assert_eq!(TagChange::put(many(0, 1)).unwrap().applied_to(&full).unwrap(), full, "it is there");
        let refused = TagChange::put(many(TAGS_MAX, 1)).unwrap().applied_to(&full).unwrap_err();
        assert!(refused.public().starts_with("tags: an instance has at most 20"), "{refused}");
        for too_many in [TagChange::put(many(0, TAGS_MAX + 1)), TagChange::replace(many(0, TAGS_MAX + 1))] {
            assert_eq!(too_many.unwrap_err().kind(), crate::ErrorKind::Parameter(Field::Tags));
        }
        let query = |count| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        assert!(TagsWanted::parse(&query(TAGS_MAX)).is_ok());
        assert!(TagsWanted::parse(&query(TAGS_MAX + 1)).is_err());
    }

    #[test]
    fn filters_ask_for_all_that_they_name() {
        let found = held(&[("stage", "live"), ("owner", "ada=b"), ("empty", "")]);
        for (text, admits) in [
            ("", true),
            ("stage=live", true),
            ("stage=live,owner=ada=b", true),
            ("stage", true),
            ("stage=", true),
            ("empty", true),
            ("stage=test", false),
            ("stage=live,absent", false),
            ("Stage=live", false),
        ] {
            assert_eq!(TagsWanted::parse(text).unwrap().admits(&found), admits, "{text}");
        }
        for bad in ["=live", ",", "a=1,", "a=1,a=2", "a/b=1"] {
            assert!(TagsWanted::parse(bad).is_err(), "{bad}");
        }
    }
}
