//! Words of strangers, such as the servers that are backed up.

/// The longest piece of a server's text that is passed on, in characters.
const TEXT_LENGTH_CHARS_MAX: usize = 400;

/// A server's text, made fit for terminals, logs and documents: one line of printable
/// characters, of bounded length (faults.md H14).
pub fn for_people(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean: String = text
        .chars()
        .take(TEXT_LENGTH_CHARS_MAX)
        .map(|c| {
            if c.is_whitespace() {
                ' '
            } else if is_unprintable(c) {
                '\u{FFFD}'
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(TEXT_LENGTH_CHARS_MAX).is_some() {
        clean.push('…');
    }
    clean
}

/// Controls, and the marks that reorder or hide what stands around them.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h14_text_for_people_is_one_short_line_without_tricks() {
        let words = for_people(b"no \x1b[31mred\x07\r\nsecond line \xff");
        assert_eq!(words, "no \u{FFFD}[31mred\u{FFFD}  second line \u{FFFD}");
        let long = for_people("x".repeat(100_000).as_bytes());
        assert_eq!(long.chars().count(), TEXT_LENGTH_CHARS_MAX + 1);
        assert_eq!(for_people("a\u{202E}b".as_bytes()), "a\u{FFFD}b");
    }
}
