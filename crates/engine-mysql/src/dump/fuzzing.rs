//! A table as a stranger's server tells of it, dumped; and what the file says, read by somebody else.
//!
//! An input is fields with 0xff between them: schema, name, engine, definition, counter, time of creation, how
//! many columns; for each column name, type, character set and what else is said of it; then values, row
//! by row. A server on a thread of its own answers every statement with them.

use strongroom_core::engine::CancelToken;

use super::file::DumpFile;
use super::kept::Memory;
use super::reader::{Token, shape, statements};
use super::{Bounds, Dump, FOOT, HEAD};
use crate::connection::Watch;
use crate::connection::fuzzing::{field, scripted};
use crate::facts::EmptyTable;

const SEPARATOR: u8 = 0xff;
/// A field that is NULL.
const NULL: &[u8] = &[0xfe];
const COLUMNS_MAX: usize = 4;
/// A table that is always read, after the other one.
const PLAIN: &str = "strongroom_plain";
/// In the file, whatever is told: its head and foot, the plain table, the words around names.
const FIXED_BYTES_MAX: usize = 16 << 10;
/// And for each byte that is told: names are said again and again, in quotes within quotes.
const BYTES_PER_INPUT_MAX: usize = 64;

/// What a value of a type is in a statement, by the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Exact,
    Approximate,
    Moment,
    Bytes,
    Text,
}

const CLASSES: [(Class, &str); 5] = [
    (Class::Exact, "tinyint smallint mediumint int bigint decimal year"),
    (Class::Approximate, "float double"),
    (Class::Moment, "date time datetime timestamp"),
    (
        Class::Bytes,
        "binary varbinary tinyblob blob mediumblob longblob bit vector geometry point linestring polygon \
         multipoint multilinestring multipolygon geomcollection geometrycollection",
    ),
    (Class::Text, "char varchar tinytext text mediumtext longtext enum set json"),
];

fn class(data_type: &[u8]) -> Option<Class> {
    let is_it = |names: &str| names.split(' ').any(|name| data_type.eq_ignore_ascii_case(name.as_bytes()));
    CLASSES.into_iter().find(|(_, names)| is_it(names)).map(|(class, _)| class)
}

/// What is told of the table.
#[derive(Debug, Clone)]
struct Told {
    schema: String,
    table: String,
    engine: String,
    definition: Vec<u8>,
    counter: Vec<u8>,
    created: Vec<u8>,
    /// Name, type, character set, what else.
    columns: Vec<[Vec<u8>; 4]>,
    rows: Vec<Vec<Vec<u8>>>,
}

impl Told {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec);
        let mut names = [String::new(), String::new(), String::new()];
        for name in &mut names {
            *name = String::from_utf8(fields.next()?).ok()?;
        }
        let [schema, table, engine] = names;
        let (definition, counter, created) = (fields.next()?, fields.next()?, fields.next()?);
        let count = usize::from(*fields.next()?.first()?) % (COLUMNS_MAX + 1);
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push([fields.next()?, fields.next()?, fields.next()?, fields.next()?]);
        }
        let values: Vec<Vec<u8>> = fields.collect();
        let rows = values.chunks_exact(count.max(1)).map(<[Vec<u8>]>::to_vec).collect();
        let told = Self { schema, table, engine, definition, counter, created, columns, rows };
        (!told.schema.contains(PLAIN) && !told.table.contains(PLAIN)).then_some(told)
    }

    fn plain() -> Self {
        let text = |text: &str| text.as_bytes().to_vec();
        Self {
            schema: "s".to_owned(),
            table: PLAIN.to_owned(),
            engine: "CSV".to_owned(),
            definition: Vec::new(),
            counter: Vec::new(),
            created: text("2026-01-01 00:00:00"),
            columns: vec![[text("body"), text("longblob"), NULL.to_vec(), Vec::new()]],
            rows: vec![vec![text("x")]],
        }
    }

    /// The packets that answer a statement.
    fn answer(&self, statement: &str) -> Vec<Vec<u8>> {
        let table = |columns: usize, rows: Vec<Vec<&[u8]>>| {
            let count = u8::try_from(columns).unwrap_or(1);
            let head = [vec![vec![count]], vec![b"\x03def".to_vec(); columns]].concat();
            let rows = rows.into_iter().map(|row| row.into_iter().flat_map(told).collect());
            head.into_iter().chain(rows).chain([b"\xfe\0\0\x02\0\0\0".to_vec()]).collect()
        };
        if statement.starts_with("SET ") {
            vec![b"\0\0\0\x02\0\0\0".to_vec()]
        } else if statement.starts_with("SELECT DATE_FORMAT") {
            table(1, vec![vec![b"2026-11-30T04:12:33.123456Z"]])
        } else if statement.starts_with("SELECT ENGINE") {
            table(2, vec![vec![self.engine.as_bytes(), &self.created]])
        } else if statement.starts_with("SELECT COLUMN_NAME") {
            table(4, self.columns.iter().map(|column| column.iter().map(Vec::as_slice).collect()).collect())
        } else if statement.starts_with("SHOW CREATE") {
            table(2, vec![vec![self.table.as_bytes(), &self.definition]])
        } else if statement.starts_with("SELECT AUTO_INCREMENT") {
            table(1, vec![vec![&self.counter]])
        } else {
            let rows = self.rows.iter().map(|row| row.iter().map(Vec::as_slice).collect());
            table(self.columns.len(), rows.collect())
        }
    }
}

fn told(value: &[u8]) -> Vec<u8> {
    if value == NULL { field(None) } else { field(Some(value)) }
}

/// Whether the table came into the file.
pub(crate) fn table(bytes: &[u8]) -> bool {
    let Some(told) = Told::parse(bytes) else { return false };
    let (cancel, sink) = (CancelToken::new(), Memory::default());
    let watch = Watch::new(&cancel);
    let server = told.clone();
    let reach =
        move || {
            let (told, plain) = (server.clone(), Told::plain());
            Ok(scripted(move |statement| {
                if statement.contains(PLAIN) { plain.answer(statement) } else { told.answer(statement) }
            }))
        };
    let mut tables =
        [(&*told.schema, &*told.table, &*told.engine), ("s", PLAIN, "CSV")].map(|(schema, table, engine)| {
            EmptyTable::new(schema.to_owned(), table.to_owned(), engine.to_owned(), None)
        });
    let bounds = Bounds::USUAL;
    let Ok(file) = DumpFile::new(&sink, 0, bounds.file_bytes) else { return false };
    let dump = Dump { reach: &reach, watch: &watch, bounds, file, session: None, broken: 0 };
    // What no server says ends the backup.
    if dump.take_all(&mut tables).is_err() {
        return false;
    }
    let content = sink.0.into_inner().expect("nobody panics while it is held").content;
    let content = String::from_utf8(content.expect("the plain table is in it")).expect("text is in it");
    assert!(content.len() <= FIXED_BYTES_MAX + BYTES_PER_INPUT_MAX * bytes.len(), "{} bytes", content.len());
    let is_taken = tables[0].dump.is_some();
    assert_eq!(
        tables[0].dump.as_ref().map_or(0, |dump| dump.rows),
        if is_taken { told.rows.len() as u64 } else { 0 }
    );
    judge(&content, is_taken.then_some(&told));
    is_taken
}

/// The file holds these tables, exactly, and nothing else.
fn judge(content: &str, told: Option<&Told>) {
    let found = statements(content).unwrap_or_else(|reason| panic!("{reason}"));
    let of = |text: &str| statements(text).expect("our own words are statements");
    let (head, foot) = (of(HEAD), of(FOOT));
    assert!(found.starts_with(&head) && found.ends_with(&foot), "{content}");
    let mut between = &found[head.len()..found.len() - foot.len()];
    for told in told.into_iter().chain([&Told::plain()]) {
        between = judge_table(told, between);
    }
    assert!(between.is_empty(), "{between:?}");
}

const TRIGGERS: &str = "SET SESSION sql_mode = IF ( EXISTS ( SELECT # FROM information_schema . TRIGGERS WHERE EVENT_MANIPULATION = ' AND \
     EVENT_OBJECT_SCHEMA = ' AND EVENT_OBJECT_TABLE = ' AND CAST ( EVENT_OBJECT_SCHEMA AS BINARY ) = CAST ( ' AS BINARY ) AND \
     CAST ( EVENT_OBJECT_TABLE AS BINARY ) = CAST ( ' AS BINARY ) ) , ' , @ @ SESSION . sql_mode )";
const FILLED: &str =
    "SET SESSION sql_mode = IF ( EXISTS ( SELECT # FROM ` . ` ) , ' , @ @ SESSION . sql_mode )";
const COUNTER: &str = "ALTER TABLE ` . ` AUTO_INCREMENT = #";
/// Before the definition of an ARCHIVE table: one whose file is lost goes.
const LOST: [&str; 4] = [
    "SET @ strongroom_lost = IF ( EXISTS ( SELECT # FROM information_schema . TABLES WHERE TABLE_SCHEMA = ' AND TABLE_NAME = ' AND \
     CAST ( TABLE_SCHEMA AS BINARY ) = CAST ( ' AS BINARY ) AND CAST ( TABLE_NAME AS BINARY ) = CAST ( ' AS BINARY ) AND \
     COALESCE ( TABLE_ROWS , # ) = # AND UPDATE_TIME IS NULL ) , ' , ' )",
    "PREPARE strongroom_lost FROM @ strongroom_lost",
    "EXECUTE strongroom_lost",
    "DEALLOCATE PREPARE strongroom_lost",
];

/// The statements of one table; answers with what follows them.
fn judge_table<'s>(told: &Told, found: &'s [Vec<Token>]) -> &'s [Vec<Token>] {
    let mut found = found;
    let mut next = || {
        let (first, rest) = found.split_first().expect("another statement");
        found = rest;
        first.as_slice()
    };
    let (schema, table) = (&*told.schema, &*told.table);
    let statement = next();
    assert_eq!(shape(statement), TRIGGERS);
    assert_eq!(texts(statement)[..5], ["INSERT", schema, table, schema, table]);
    if told.engine == "ARCHIVE" {
        for wanted in LOST {
            let statement = next();
            assert_eq!(shape(statement), wanted);
            if let [texts @ .., drop, nothing] = &texts(statement)[..] {
                assert_eq!((texts, *nothing), (&[schema, table, schema, table][..], "DO 0"));
                judge_drop(told, drop);
            }
        }
        judge_definition(told, next());
    }
    let statement = next();
    assert_eq!(shape(statement), FILLED);
    judge_name(told, statement, "SET SESSION sql_mode = IF ( EXISTS ( SELECT # FROM ");
    if found.first().is_some_and(|statement| shape(statement) == COUNTER) {
        assert_eq!(told.engine, "MyISAM");
        judge_name(told, &found[0], "ALTER TABLE ");
        found = &found[1..];
    }
    // A statement takes rows until it is long enough, which none is here.
    if !told.rows.is_empty() {
        judge_rows(told, &found[0]);
        found = &found[1..];
    }
    found
}

fn texts(statement: &[Token]) -> Vec<&str> {
    let mut texts = Vec::new();
    for token in statement {
        if let Token::Text(text) = token {
            texts.push(text.as_str());
        }
    }
    texts
}

/// Behind these words stands the name of the table and no other.
fn judge_name(told: &Told, statement: &[Token], words: &str) {
    let begin = words.split_whitespace().count();
    let wanted = [Token::Name(told.schema.clone()), Token::Sign('.'), Token::Name(told.table.clone())];
    assert_eq!(statement[begin..begin + 3], wanted);
}

/// A statement within a text.
fn judge_drop(told: &Told, text: &str) {
    let found = statements(&format!("{text};\n")).unwrap_or_else(|reason| panic!("{reason}"));
    let [statement] = &found[..] else { panic!("{text}") };
    assert_eq!(shape(statement), "DROP TABLE IF EXISTS ` . `");
    judge_name(told, statement, "DROP TABLE IF EXISTS");
}

/// Of the one text that is taken over nothing leads elsewhere.
fn judge_definition(told: &Told, statement: &[Token]) {
    judge_name(told, statement, "CREATE TABLE IF NOT EXISTS");
    let (mut depth, mut engines) = (0, 0);
    for (at, token) in statement.iter().enumerate().skip(8) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            Token::Sign('@') | Token::Hex(_) => panic!("{statement:?}"),
            Token::Word(word) => {
                let leads_away = [
                    "AS",
                    "SELECT",
                    "TABLE",
                    "VALUES",
                    "WITH",
                    "LIKE",
                    "UNION",
                    "INTO",
                    "DIRECTORY",
                    "CONNECTION",
                ];
                assert!(!leads_away.iter().any(|known| known.eq_ignore_ascii_case(word)), "{statement:?}");
                if depth == 0 && word.eq_ignore_ascii_case("ENGINE") {
                    engines += 1;
                    let wanted = [Token::Sign('='), Token::Word("ARCHIVE".to_owned())];
                    assert_eq!(statement.get(at + 1..at + 3), Some(&wanted[..]), "{statement:?}");
                }
            }
            _ => {}
        }
        assert!(depth >= 0, "{statement:?}");
    }
    assert!(depth == 0 && engines == 1, "{statement:?}");
}

fn judge_rows(told: &Told, statement: &[Token]) {
    judge_name(told, statement, "INSERT INTO");
    let (sign, word) = (Token::Sign, |word: &str| Token::Word(word.to_owned()));
    let mut wanted = statement[..5].to_vec();
    let names = told.columns.iter().map(|[name, ..]| {
        vec![Token::Name(String::from_utf8(name.clone()).expect("a name that was taken is text"))]
    });
    wanted.extend(listed(names));
    wanted.push(word("VALUES"));
    for (number, row) in told.rows.iter().enumerate() {
        if number > 0 {
            wanted.push(sign(','));
        }
        let values = row.iter().zip(&told.columns).map(|(value, column)| literal(value, column));
        wanted.extend(listed(values));
    }
    assert_eq!(statement, wanted);
}

fn listed(items: impl Iterator<Item = Vec<Token>>) -> Vec<Token> {
    let mut list = vec![Token::Sign('(')];
    for (number, item) in items.enumerate() {
        if number > 0 {
            list.push(Token::Sign(','));
        }
        list.extend(item);
    }
    list.push(Token::Sign(')'));
    list
}

/// What gives this value back.
fn literal(value: &[u8], [_, data_type, charset, _]: &[Vec<u8>; 4]) -> Vec<Token> {
    if value == NULL {
        return vec![Token::Word("NULL".to_owned())];
    }
    let text = || String::from_utf8(value.to_vec()).expect("digits are text");
    let class = class(data_type).unwrap_or_else(|| panic!("a type that nobody knows: {data_type:?}"));
    match class {
        Class::Exact => vec![Token::Number(text())],
        Class::Approximate if value.contains(&b'e') => vec![Token::Number(text())],
        Class::Approximate => vec![Token::Number(text() + "e0")],
        Class::Moment => vec![Token::Text(text())],
        Class::Bytes | Class::Text if value.is_empty() => vec![Token::Text(String::new())],
        Class::Bytes => vec![Token::Hex(value.to_vec())],
        Class::Text => {
            let is_json = data_type.eq_ignore_ascii_case(b"json");
            let charset = if is_json { "utf8mb4".into() } else { String::from_utf8_lossy(charset) };
            vec![Token::Word(format!("_{charset}")), Token::Hex(value.to_vec())]
        }
    }
}

fn seed(fields: &[&[u8]]) -> Vec<u8> {
    fields.join(&SEPARATOR)
}

/// With names that hold every quote there is.
pub(crate) fn myisam() -> Vec<u8> {
    let moment = &b"2026-01-01 00:00:00"[..];
    let columns: [&[u8]; 16] = [
        b"id",
        b"bigint",
        NULL,
        b"auto_increment",
        b"a`b'c\"d\\e;f",
        b"varchar",
        b"latin1",
        b"",
        b"at",
        b"datetime",
        NULL,
        b"",
        b"share",
        b"float",
        NULL,
        b"",
    ];
    let rows: [&[u8]; 8] = [
        b"-0012",
        b"it's \\ ; -- `",
        b"2026-11-30 04:12:33.5",
        b"-0",
        b"7",
        NULL,
        b"0000-00-00 00:00:00",
        b"1.5e-7",
    ];
    let head: [&[u8]; 7] = [b"sh'op", b"o`ld\\\"';--", b"MyISAM", b"", b"8", moment, &[4]];
    seed(&[&head[..], &columns, &rows].concat())
}

pub(crate) fn csv() -> Vec<u8> {
    seed(&[
        b"s",
        b"t",
        b"CSV",
        b"",
        NULL,
        NULL,
        &[2],
        b"body",
        b"json",
        b"utf8mb4",
        b"",
        b"raw",
        b"longblob",
        NULL,
        b"",
        b"{}",
        b"\0'\\\n",
        b"",
        b"",
    ])
}

pub(crate) fn archive() -> Vec<u8> {
    let said = "CREATE TABLE `o``ld` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `a` varchar(9) CHARACTER SET latin1 \
        DEFAULT 'it''s; \\\\! x',\n  `b` decimal(5,2) DEFAULT '-1.00' COMMENT 'a\\nb' /*!80023 INVISIBLE */,\n  KEY `id` \
        (`id`)\n) ENGINE=ARCHIVE AUTO_INCREMENT=101 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x'";
    seed(&[
        b"s",
        b"o`ld",
        b"ARCHIVE",
        said.as_bytes(),
        NULL,
        NULL,
        &[1],
        b"id",
        b"int",
        NULL,
        b"auto_increment",
        b"1",
        b"2",
    ])
}
