//! A file of statements, read as the client program and the server read it: written from MySQL's manual,
//! and knows nothing of how the file is made. What ends its own quotes shows here as something else.

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Without its backticks.
    Name(String),
    /// Without its quotes, as the server takes it.
    Text(String),
    Hex(Vec<u8>),
    Number(String),
    Word(String),
    Sign(char),
}

/// All statements, each of them on one line that ends with it; or what is none, with the line.
pub(super) fn statements(file: &str) -> Result<Vec<Vec<Token>>, String> {
    let mut found = Vec::new();
    let Some(lines) = file.strip_suffix('\n') else { return Err("the last line has no end".to_owned()) };
    for line in lines.split('\n') {
        if line.is_empty() || line.starts_with("-- ") {
            if line.contains(char::is_control) {
                return Err(format!("a control character in a comment: {line:?}"));
            }
            continue;
        }
        found.push(statement(line).map_err(|reason| format!("{reason}: {line:?}"))?);
    }
    Ok(found)
}

fn statement(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut reader = Reader { rest: line };
    let mut tokens = Vec::new();
    loop {
        match reader.rest.chars().next() {
            None => return Err("a statement without its end"),
            Some(';') if reader.rest.len() == 1 => break,
            Some(' ') => reader.skip(1),
            Some(_) => tokens.push(reader.token()?),
        }
    }
    if tokens.is_empty() { Err("an empty statement") } else { Ok(tokens) }
}

struct Reader<'l> {
    rest: &'l str,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// As long as a character is one of those.
    fn run(&mut self, is_of: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|sign| !is_of(sign)).unwrap_or(self.rest.len());
        let run = self.rest[..end].to_owned();
        self.skip(end);
        run
    }

    fn token(&mut self) -> Result<Token, &'static str> {
        let mut signs = self.rest.chars();
        let (first, second) = (signs.next().unwrap_or(';'), signs.next());
        match first {
            '`' => self.name(),
            '\'' => self.text(),
            _ if first.is_ascii_digit()
                || first == '-' && second.is_some_and(|next| next.is_ascii_digit()) =>
            {
                Ok(self.number())
            }
            // Two of them begin a comment.
            '-' if second == Some('-') => Err("a comment within a statement"),
            '(' | ')' | ',' | '.' | '=' | '@' | '-' => {
                self.skip(1);
                Ok(Token::Sign(first))
            }
            _ if first.is_ascii_alphabetic() || first == '_' => {
                Ok(Token::Word(self.run(|sign| sign.is_ascii_alphanumeric() || sign == '_')))
            }
            ';' => Err("something behind the end of a statement"),
            _ => Err("a sign outside of quotes that means something"),
        }
    }

    /// A word may begin with digits, where it is neither a number nor hex.
    fn number(&mut self) -> Token {
        let begin = self.rest;
        if self.rest.starts_with('-') {
            self.skip(1);
        }
        self.run(|sign| sign.is_ascii_digit() || sign == '.');
        if self.rest.starts_with(['e', 'E']) {
            self.skip(1);
            if self.rest.starts_with(['+', '-']) {
                self.skip(1);
            }
            self.run(|sign| sign.is_ascii_digit());
        }
        let text = &begin[..begin.len() - self.rest.len()];
        let is_alone =
            !self.rest.starts_with(|sign: char| sign.is_ascii_alphanumeric() || "_$".contains(sign));
        // What this takes for a number is one for everybody.
        if is_alone && text.parse::<f64>().is_ok() {
            return Token::Number(text.to_owned());
        }
        self.rest = begin;
        if self.rest.starts_with('-') {
            self.skip(1);
            return Token::Sign('-');
        }
        let word = self.run(|sign| sign.is_ascii_alphanumeric() || sign == '_');
        match word.strip_prefix("0x").map(hex::decode) {
            Some(Ok(bytes)) => Token::Hex(bytes),
            _ => Token::Word(word),
        }
    }

    /// A doubled backtick is one.
    fn name(&mut self) -> Result<Token, &'static str> {
        let mut name = String::new();
        self.skip(1);
        loop {
            name += &self.run(|sign| sign != '`' && !sign.is_control());
            if self.rest.starts_with("``") {
                self.skip(2);
                name.push('`');
            } else if self.rest.starts_with('`') {
                self.skip(1);
                break;
            } else {
                return Err("a name without its end");
            }
        }
        Ok(Token::Name(name))
    }

    /// A doubled quote is one; a backslash gives the character behind it another meaning.
    fn text(&mut self) -> Result<Token, &'static str> {
        let mut text = String::new();
        self.skip(1);
        loop {
            text += &self.run(|sign| sign != '\'' && sign != '\\' && !sign.is_control());
            if self.rest.starts_with("''") {
                self.skip(2);
                text.push('\'');
            } else if self.rest.starts_with('\'') {
                self.skip(1);
                break;
            } else if let Some(escaped) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) {
                self.skip(1 + escaped.len_utf8());
                text.push(match escaped {
                    '0' => '\0',
                    'b' => '\u{8}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'Z' => '\u{1a}',
                    other => other,
                });
            } else {
                return Err("a text without its end");
            }
        }
        Ok(Token::Text(text))
    }
}

/// A statement without what stands in quotes and without its numbers, to be compared.
pub(super) fn shape(statement: &[Token]) -> String {
    let words = statement.iter().map(|token| match token {
        Token::Name(_) => "`".to_owned(),
        Token::Text(_) => "'".to_owned(),
        Token::Hex(_) => "0x".to_owned(),
        Token::Number(_) => "#".to_owned(),
        Token::Word(word) => word.clone(),
        Token::Sign(sign) => sign.to_string(),
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<Token>, String> {
        statements(&format!("{line}\n")).map(|mut all| all.pop().unwrap_or_default())
    }

    #[test]
    fn statements_are_read_as_the_server_reads_them() {
        let (name, text) =
            (|name: &str| Token::Name(name.to_owned()), |text: &str| Token::Text(text.to_owned()));
        assert_eq!(read("`a``;b`.`c`;").unwrap(), [name("a`;b"), Token::Sign('.'), name("c")]);
        assert_eq!(read(r"'it''s \\ \' \n \%';").unwrap(), [text("it's \\ ' \n %")]);
        let number = |number: &str| Token::Number(number.to_owned());
        let values = [
            Token::Sign('('),
            number("-1.5e-7"),
            Token::Sign(','),
            Token::Hex(vec![0, 39]),
            Token::Sign(')'),
        ];
        assert_eq!(read("(-1.5e-7, 0x0027);").unwrap(), values);
        assert_eq!(
            shape(&read("SET @x = _latin1 0x61, `b` = 'c';").unwrap()),
            "SET @ x = _latin1 0x , ` = '"
        );
        assert_eq!(shape(&read("`a`0int 0x0 -1 - 1e5x;").unwrap()), "` 0int 0x0 # - 1e5x");
        assert_eq!(statements("-- a comment; `\n\nDO 0;\n").unwrap().len(), 1);
    }

    #[test]
    fn h07_what_leaves_its_quotes_is_found() {
        for line in [
            "INSERT INTO `a`b` VALUES (1);",
            "INSERT INTO `a` VALUES ('it's');",
            r"INSERT INTO `a` VALUES ('\');",
            "INSERT INTO `a` VALUES (1); DROP TABLE `x`;",
            "INSERT INTO `a` VALUES (1)",
            "INSERT INTO `a` VALUES (1) -- x;",
            "INSERT INTO `a` VALUES (1) /* x */;",
            "INSERT INTO `a` VALUES (1) # x;",
            "INSERT INTO `a` VALUES (1)\\! x;",
            "INSERT INTO `a\nb` VALUES (1);",
            "INSERT INTO `a` VALUES ('a\nb');",
            "INSERT INTO `a` VALUES (\"x\");",
            "INSERT INTO `a` VALUES (1--1);",
            "-- x\r",
            ";",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(statements("DO 0;").is_err());
    }
}
