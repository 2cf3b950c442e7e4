//! A MySQL whose files are encrypted, through the executable: it comes back by every way out, and what
//! opens it is seen in none of the places where a stranger might look.

use std::path::Path;

use strongroom_testkit::mysql::{MySqlServer, Options, require_keyring};

use crate::downloads::{fetch, link, unpack};
use crate::drills::{Drills, verification};
use crate::mysql::{Shop, checksums, complaints, servers};
use crate::room::files;
use crate::source::restore;

const KEYRING: &str = "strongroom-keyring.json";

fn open() -> Shop {
    let shop = Shop::of(MySqlServer::start(&Options { keyring: true, ..Options::default() }).unwrap());
    shop.server
        .sql(
            "set global innodb_redo_log_encrypt = on; set global innodb_undo_log_encrypt = on;
             alter table shop.wares encryption = 'Y'; alter table shop.parts encryption = 'Y'",
        )
        .unwrap();
    shop
}

/// The master key in a restored directory, as its keyring has it.
fn master_key(target: &Path) -> String {
    let text = std::fs::read_to_string(target.join(KEYRING)).unwrap();
    let keyring: serde_json::Value = serde_json::from_str(&text).unwrap();
    keyring["elements"][0]["data"].as_str().unwrap().to_owned()
}

fn holds(bytes: &[u8], key: &str) -> bool {
    let raw = hex::decode(key).unwrap();
    let texts = [key.as_bytes().to_vec(), key.to_lowercase().into_bytes(), raw];
    texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text))
}

#[test]
fn b14_an_encrypted_mysql_comes_back_and_its_key_is_seen_nowhere() {
    if !require_keyring() {
        return;
    }
    let (drills, shop) = (Drills::with_servers("STRONGROOM_MYSQL_BINDIR", &servers()), open());
    let room = &drills.room;
    shop.register(room);
    room.run(&["instance", "check", "shop"]).expect(0);
    let mut keys = Vec::new();
    for name in ["first", "second"] {
        let wanted = checksums(&shop.server);
        room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"]);
        let view = room.ended(name);
        assert_eq!(view["status"], "COMPLETED", "{view}");
        room.run(&["backup", "verify", name, "--level", "engine", "--progress", "none"]).expect(0);
        let found = verification(room, name);
        assert!(found["drill"]["rows"].as_u64().unwrap() >= 65_000, "{found}");
        drills.is_clean();
        let target = room.scratch.path().join(name);
        let restored = restore(room, name, &target).expect(0);
        assert!(
            restored.stderr.contains("are encrypted") && restored.stderr.contains(KEYRING),
            "{}",
            restored.stderr
        );
        let copy = MySqlServer::adopt(&target, &[]).unwrap();
        assert_eq!(checksums(&copy), wanted);
        assert_eq!(complaints(&copy), "");
        keys.push(master_key(&target));
        shop.server.sql("update shop.wares set amount = amount + 1 where id % 100 = 0").unwrap();
    }
    assert_eq!(keys[0], keys[1], "a first page that did not change is not stored again");

    let (url, _) = link(room, "second");
    let archive = room.scratch.path().join("whole.tar.zst");
    std::fs::write(&archive, fetch(&url, "GET", "").body).unwrap();
    let target = unpack(&archive, &room.scratch.path().join("unpacked"));
    let notes = std::fs::read_to_string(target.join("strongroom-notes.txt")).unwrap();
    assert!(notes.contains("Name the keyring with its whole path"), "{notes}");
    let configuration = serde_json::json!({"path": target.join(KEYRING), "read_only": false});
    std::fs::write(target.join("component_keyring_file.cnf"), configuration.to_string()).unwrap();
    let copy = MySqlServer::adopt(&target, &[]).unwrap();
    assert_eq!(copy.sql("select count(*) from shop.wares where amount = 1").unwrap(), "600");

    let key = &keys[0];
    assert_eq!((key.len(), master_key(&target)), (64, key.clone()));
    let shown = room.run(&["backup", "show", "second", "--output", "json"]).expect(0).stdout;
    for text in [shown, room.log(), notes] {
        assert!(!holds(text.as_bytes(), key), "{text}");
    }
    let everywhere = files(&room.data_dir());
    assert!(everywhere.len() > 10, "{everywhere:?}");
    for file in everywhere {
        assert!(!holds(&std::fs::read(&file).unwrap(), key), "{}", file.display());
    }
}
