//! The definition of a table whose file no clone brings, as a statement that makes it again.
//!
//! It is the one text of a server that becomes part of a statement: it must be the definition of a table
//! and nothing that a server, or the program that reads the file, would obey.

use crate::remedy::quote_name;

/// What tells more than columns and options: other tables, other files, other servers.
const REFUSED: [&str; 12] = [
    "SELECT",
    "TABLE",
    "VALUES",
    "WITH",
    "LIKE",
    "UNION",
    "AS",
    "INTO",
    "REPLACE",
    "DIRECTORY",
    "CONNECTION",
    "PARTITION",
];

/// As the server marks a column for the eyes of older ones.
const INVISIBLE: &str = "/*!80023 INVISIBLE */";

/// What `SHOW CREATE TABLE` says of an ARCHIVE table, as one line; `None` when it is not as plain as that.
pub(super) fn archive(said: &str, schema: &str, table: &str) -> Option<String> {
    let rest = said.strip_prefix(&format!("CREATE TABLE {} (", quote_name(table)))?;
    let mut reader =
        Reader { rest, out: String::new(), word: String::new(), options: String::new(), depth: 1 };
    reader.read()?;
    (reader.depth == 0 && reader.is_of_archive()).then(|| {
        format!("CREATE TABLE IF NOT EXISTS {}.{} ({}", quote_name(schema), quote_name(table), reader.out)
    })
}

struct Reader<'s> {
    rest: &'s str,
    out: String,
    /// Outside of quotes, as far as it has come.
    word: String,
    /// What follows the columns, without what is in quotes.
    options: String,
    depth: u32,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<()> {
        loop {
            if let Some(rest) = self.rest.strip_prefix(INVISIBLE) {
                self.out.push_str("INVISIBLE");
                self.rest = rest;
            }
            let Some(sign) = self.rest.chars().next() else { return self.end_word() };
            match sign {
                '`' | '\'' => {
                    self.end_word()?;
                    self.quoted(sign)?;
                }
                _ => self.plain(sign)?,
            }
        }
    }

    /// The engine is said once: of two the server would take the last one.
    fn is_of_archive(&self) -> bool {
        let words = self.options.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
        let is_it = self.options.split(' ').any(|option| option == "ENGINE=ARCHIVE");
        is_it && words.filter(|word| word.eq_ignore_ascii_case("ENGINE")).count() == 1
    }

    fn plain(&mut self, sign: char) -> Option<()> {
        self.rest = &self.rest[sign.len_utf8()..];
        if sign.is_ascii_alphanumeric() || sign == '_' {
            self.word.push(sign);
        } else {
            self.end_word()?;
            match sign {
                '(' => self.depth += 1,
                ')' => self.depth = self.depth.checked_sub(1)?,
                ' ' | '\n' | ',' | '=' | '.' => {}
                '-' if !self.out.ends_with('-') => {}
                _ => return None,
            }
            // A table of ARCHIVE takes no number below the one that it would give next.
            if self.depth == 0
                && sign == ' '
                && let Some(rest) = self.rest.strip_prefix("AUTO_INCREMENT=")
            {
                self.rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                return Some(());
            }
        }
        let written = if sign == '\n' { ' ' } else { sign };
        self.out.push(written);
        if self.depth == 0 {
            self.options.push(written);
        }
        Some(())
    }

    fn end_word(&mut self) -> Option<()> {
        let word = std::mem::take(&mut self.word);
        (!REFUSED.contains(&word.to_ascii_uppercase().as_str())).then_some(())
    }

    /// A name or a text up to the quote that ends it; doubled ones begin another.
    fn quoted(&mut self, quote: char) -> Option<()> {
        let mut is_escaped = false;
        for (at, sign) in self.rest.char_indices().skip(1) {
            if sign.is_control() {
                return None;
            }
            if is_escaped {
                is_escaped = false;
            } else if sign == '\\' && quote == '\'' {
                is_escaped = true;
            } else if sign == quote {
                let (text, rest) = self.rest.split_at(at + 1);
                self.out.push_str(text);
                self.rest = rest;
                return Some(());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAID: &str = "CREATE TABLE `o``ld` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `a` varchar(9) CHARACTER SET \
        latin1 DEFAULT 'it''s; \\\\! x',\n  `b` decimal(5,2) DEFAULT '-1.00' COMMENT 'a\\nb' /*!80023 INVISIBLE */,\n  \
        KEY `id` (`id`)\n) ENGINE=ARCHIVE AUTO_INCREMENT=101 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x'";

    #[test]
    fn a_definition_becomes_one_line_without_its_counter() {
        assert_eq!(
            archive(SAID, "s", "o`ld").unwrap(),
            "CREATE TABLE IF NOT EXISTS `s`.`o``ld` (   `id` int NOT NULL AUTO_INCREMENT,   `a` varchar(9) CHARACTER SET \
             latin1 DEFAULT 'it''s; \\\\! x',   `b` decimal(5,2) DEFAULT '-1.00' COMMENT 'a\\nb' INVISIBLE,   KEY `id` (`id`) ) \
             ENGINE=ARCHIVE DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x'"
        );
    }

    #[test]
    fn h07_a_definition_that_says_more_is_not_taken() {
        let plain = "CREATE TABLE `t` (\n  `a` int\n) ENGINE=ARCHIVE";
        assert!(archive(plain, "s", "t").is_some());
        for (from, to) in [
            ("`a` int", "`a` int); DROP TABLE x; CREATE TABLE y (a int"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVES"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE ENGINE=MEMORY"),
            ("ENGINE=ARCHIVE", "engine MEMORY,ENGINE=ARCHIVE ENGINE=ARCHIVE"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE, engine 'MEMORY'"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE AS SELECT load_file('x')"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE select 1"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE TABLE mysql.user"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE\n\\! touch x"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE -- x"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE /*! x */"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE # x"),
            ("ENGINE=ARCHIVE", "ENGINE=FEDERATED CONNECTION='mysql://x'"),
            ("ENGINE=ARCHIVE", "ENGINE=FEDERATED COMMENT=' ENGINE=ARCHIVE'"),
            ("ENGINE=ARCHIVE", "ENGINE=ARCHIVE DATA DIRECTORY='x'"),
            ("`a` int", "`a` int COMMENT 'x"),
            ("`a` int", "`a` int COMMENT 'x\ny'"),
            ("`a` int", "`a\ndelimiter x` int"),
            ("`a` int", "`a` int)"),
            ("`a` int", "`a` int ("),
            ("`t`", "`u`"),
            ("TABLE", "VIEW"),
        ] {
            assert_eq!(archive(&plain.replacen(from, to, 1), "s", "t"), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn h07_a_definition_is_one_line_and_one_statement(said in "[-`'\\\\;#*/!()a-c \n]{0,40}") {
            let told = format!("CREATE TABLE `t` ({said}) ENGINE=ARCHIVE");
            if let Some(made) = archive(&told, "s", "t") {
                prop_assert!(!made.contains('\n'));
                // As a server reads it, nothing outside of quotes is more than words and brackets.
                let (mut quote, mut signs) = (None, made.chars());
                while let Some(sign) = signs.next() {
                    match (quote, sign) {
                        (Some('\''), '\\') => {
                            signs.next();
                        }
                        (Some(open), _) if open == sign => quote = None,
                        (Some(_), _) => {}
                        (None, '`' | '\'') => quote = Some(sign),
                        (None, _) => prop_assert!(!";#*/!\\".contains(sign), "{}", made),
                    }
                }
                prop_assert_eq!(quote, None);
            }
        }
    }
}
