//! Exports of stores, servers and exports, and what is made of odd ones.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
};

use tuntrail::{
    client::{Export, ExportStream},
    store::find_segments,
};
use tuntrail_logserver::{Server, ServerConfig};

use super::*;
use crate::logs::{
    tests::{all, entries_and_damage, many, numbered, post, store_with},
    verify::check,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The files of an export by their names, whichever form it has.
fn files(path: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                let inside = self::files(&entry.path()).into_iter();
                files.extend(inside.map(|(inner, content)| (format!("{name}/{inner}"), content)));
            } else {
                files.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
        return files;
    }
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
    for file in archive.entries().unwrap() {
        let mut file = file.unwrap();
        let name = String::from_utf8(file.path_bytes().into_owned()).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        files.insert(name.strip_prefix("tuntrail/").unwrap().to_owned(), content);
    }
    files
}

#[test]
fn a_store_has_the_same_files_as_a_directory_an_archive_and_the_apps_own_export() {
    let bed = store_with(&many(80));
    let logs = bed.path().join("diagnostics/w-ext");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("0000000001.log"), "{\"message\":\"hello\"}\n").unwrap();
    let place = tempfile::tempdir().unwrap();
    let source = Source::at(bed.path()).unwrap();
    let (directory, archive, app) =
        (place.path().join("out"), place.path().join("out.tar.zst"), place.path().join("app.tar.zst"));
    let report = export(&source, &directory, NOW).unwrap();
    assert_eq!((report.records, report.unreadable), (80, 0));
    export(&source, &archive, NOW).unwrap();

    let stream = ExportStream { name: "netlog".into(), collection: None };
    let mut apps = Export::begin(&app, NOW, None, &[stream]).unwrap();
    for file in find_segments(bed.path()).unwrap().segments {
        apps.add_segment(&file.stream, &file.read().unwrap().segment.unwrap()).unwrap();
    }
    let logs = tuntrail::diagnostics::Diagnostics::files(&logs).unwrap();
    logs.iter().for_each(|path| apps.add_log(path).unwrap());
    apps.finish().unwrap();

    assert_eq!(logs.len(), 1, "the file has a name of our own log's");
    assert_eq!(files(&directory), files(&archive));
    assert_eq!(files(&directory), files(&app));
    for place in [&directory, &archive, &app] {
        let source = Source::at(place).unwrap();
        assert_eq!(all(&source), all(&Source::at(bed.path()).unwrap()));
        assert!(check(&source).unwrap().is_good());
    }
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "no drafts are left: {names:?}");
}

#[cfg(unix)]
#[test]
fn an_export_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let bed = store_with(&many(3));
    let place = tempfile::tempdir().unwrap();
    let source = Source::at(bed.path()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (directory, archive) = (place.path().join("out"), place.path().join("out.tar.zst"));
    export(&source, &directory, NOW).unwrap();
    export(&source, &archive, NOW).unwrap();
    assert_eq!(mode(&archive), 0o600);
    assert_eq!((mode(&directory), mode(&directory.join("netlog"))), (0o700, 0o700));
    assert_eq!(mode(&directory.join("manifest.json")), 0o600);
}

#[test]
fn an_export_of_an_export_and_of_a_server_has_the_same_entries() {
    let bed = store_with(&many(80));
    let place = tempfile::tempdir().unwrap();
    let out = |name: &str| place.path().join(name);
    export(&Source::at(bed.path()).unwrap(), &out("a.tar.zst"), NOW).unwrap();
    export(&Source::at(&out("a.tar.zst")).unwrap(), &out("b"), NOW).unwrap();
    export(&Source::at(&out("b")).unwrap(), &out("c.tar.zst"), NOW).unwrap();
    assert_eq!(files(&out("c.tar.zst")), files(&out("a.tar.zst")));

    let server = Server::start(ServerConfig::default()).unwrap();
    let entries: Vec<_> = (1..=40).map(numbered).collect();
    post(&server, "netlog.example", &format!("[{}]", entries.join(",")));
    let source = Source::Server(ServerArguments::at(&server.base_url()));
    let report = export(&source, &out("server"), NOW).unwrap();
    assert_eq!((report.records, report.segments), (40, 1));
    assert_eq!(all(&Source::at(&out("server")).unwrap()), all(&source));
    assert!(files(&out("server"))["manifest.json"].contains("\"collection\": \"netlog.example\""));
}

#[test]
fn nothing_that_is_there_is_replaced_but_an_empty_directory() {
    let bed = store_with(&many(3));
    let source = Source::at(bed.path()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (directory, file) = (place.path().join("out"), place.path().join("out.tar.zst"));
    fs::create_dir(&directory).unwrap();
    export(&source, &directory, NOW).unwrap();
    fs::write(&file, "mine").unwrap();
    for out in [&directory, &file] {
        let error = export(&source, out, NOW).unwrap_err().to_string();
        assert!(error.contains("it exists"), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn names_in_an_archive_do_not_lead_out_of_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("odd.tar.zst");
    let mut archive = tar::Builder::new(zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap());
    let line = "{\"text\":\"x\"}\n";
    for name in
        ["tuntrail/../evil.jsonl", "tuntrail/diagnostics/..", "tuntrail/a/b.jsonl", "tuntrail/summary.json"]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(line.len() as u64);
        // The crate would refuse to write such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, line.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    let out = place.path().join("inside/out");
    fs::create_dir(place.path().join("inside")).unwrap();
    export(&Source::Archive(path), &out, NOW).unwrap();
    let names: Vec<_> = files(&place.path().join("inside")).into_keys().collect();
    let expected =
        ["out/_./evil.jsonl", "out/a/b.jsonl", "out/diagnostics/_.", "out/manifest.json", "out/summary.json"];
    assert_eq!(names, expected);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn a_store_with_somebody_elses_manifest_is_a_store() {
    let bed = store_with(&many(3));
    fs::write(bed.path().join("manifest.json"), r#"{"version":"1.2","name":"an app"}"#).unwrap();
    assert!(matches!(Source::at(bed.path()).unwrap(), Source::Directory(_)));
}

#[test]
fn an_unpacked_export_is_read_where_it_is_and_damage_to_it_is_named() {
    let bed = store_with(&many(80));
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("tuntrail");
    export(&Source::at(bed.path()).unwrap(), &out, NOW).unwrap();
    let source = Source::at(place.path()).unwrap();
    assert!(matches!(&source, Source::Unpacked(path) if *path == out), "as tar unpacks it");
    let (whole, damage) = entries_and_damage(&source);
    assert_eq!((whole, damage.len()), (80, 0));

    let segment = fs::read_dir(out.join("netlog")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&segment).unwrap();
    fs::write(&segment, &good[..good.len() - 20]).unwrap();
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 79);
    assert!(damage[0].contains("holds a line that is no entry"), "{damage:?}");
    fs::write(&segment, [&good[..], &vec![b'x'; 2 << 20]].concat()).unwrap();
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 80);
    assert!(damage[0].contains("a line of more than"), "{damage:?}");
    fs::write(&segment, &good).unwrap();

    fs::write(out.join("holiday.jpg"), "mine").unwrap();
    assert_eq!(entries_and_damage(&source), (80, vec![]), "somebody's file is no damage");
    fs::write(out.join("manifest.json"), "torn").unwrap();
    let (entries, damage) = entries_and_damage(&Source::at(place.path()).unwrap());
    assert_eq!((entries, damage.len()), (80, 1), "{damage:?}");
    fs::write(out.join("manifest.json"), r#"{"version":9}"#).unwrap();
    fs::remove_file(out.join("summary.json")).unwrap();
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!(entries, 80);
    assert!(damage[0].contains("has version 9"), "{damage:?}");
    assert!(damage[1].contains("is not whole"), "{damage:?}");
}
