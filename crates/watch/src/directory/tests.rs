//! The directory as people and their editors change it, on a real file system. Each test follows the events into a
//! world, and waits for a condition of that world with a deadline.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use api::{Change, Object};
use tokio::sync::mpsc;

use crate::{Event, Scope, Source, SourceError, spawn};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the events add up to.
struct Follower {
    events: mpsc::Receiver<Event>,
    /// Name to the host that the object is for.
    hosts: BTreeMap<String, String>,
    findings: BTreeMap<Scope, Vec<String>>,
    /// Every change, in order, as `+name` and `-name`.
    log: Vec<String>,
    synced: u32,
    connected: bool,
}

impl Follower {
    async fn start(path: &Path) -> Self {
        let events = spawn(Source::Directory(path.to_owned())).unwrap();
        let (hosts, findings) = (BTreeMap::new(), BTreeMap::new());
        let mut follower = Self { events, hosts, findings, log: Vec::new(), synced: 0, connected: false };
        follower.until(|world| world.synced == 1).await;
        follower
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !condition(self) {
                let event = self.events.recv().await.unwrap();
                self.take(event);
            }
        });
        if waited.await.is_err() {
            panic!("not reached; hosts {:?}, log {:?}, findings {:?}", self.hosts, self.log, self.findings);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Batch(changes) => changes.into_iter().for_each(|change| self.change(change)),
            Event::Diagnostics { scope, list } if list.is_empty() => _ = self.findings.remove(&scope),
            Event::Diagnostics { scope, list } => {
                self.findings.insert(scope, list.iter().map(ToString::to_string).collect());
            }
            Event::Seen(..) => {}
            Event::Synced => self.synced += 1,
            Event::SourceState { connected, .. } => self.connected = connected,
        }
    }

    fn change(&mut self, change: Change) {
        let key = change.key();
        assert_eq!(*key.namespace, *"default");
        match change {
            Change::Upsert(object) => {
                let Object::DestinationRule(rule) = &*object else { panic!("a DestinationRule") };
                self.log.push(format!("+{}", key.name));
                self.hosts.insert(key.name.to_string(), rule.spec.host.clone());
            }
            Change::Delete(_) => {
                self.log.push(format!("-{}", key.name));
                self.hosts.remove(&*key.name);
            }
        }
    }

    fn is(&self, expected: &[(&str, &str)]) -> bool {
        let expected: BTreeMap<_, _> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.hosts == expected
    }

    fn says(&self, text: &str) -> bool {
        self.findings.values().flatten().any(|found| found.contains(text))
    }
}

fn rule(name: &str, host: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {name}\nspec:\n  host: {host}\n"
    )
}

fn world(files: &[(&str, String)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    root
}

#[tokio::test]
async fn what_is_there_comes_before_synced() {
    let root = world(&[("a.yaml", rule("a", "one") + &rule("b", "two") + "---\n"), ("notes.txt", "no".into())]);
    let follower = Follower::start(root.path()).await;
    assert!(follower.is(&[("a", "one"), ("b", "two")]) && follower.connected);
}

#[tokio::test]
async fn an_empty_directory_is_a_world() {
    let root = world(&[]);
    let follower = Follower::start(root.path()).await;
    assert!(follower.is(&[]) && follower.findings.is_empty());
}

#[tokio::test]
async fn a_missing_directory_is_a_clear_error() {
    let root = world(&[("f.yaml", String::new())]);
    let error = |path: &str| match spawn(Source::Directory(root.path().join(path))) {
        Err(error @ SourceError::Directory { .. }) => error.to_string(),
        Ok(_) => String::new(),
    };
    assert!(error("nowhere").ends_with("nowhere: no such directory"), "{}", error("nowhere"));
    assert!(error("f.yaml").ends_with("f.yaml: not a directory"), "{}", error("f.yaml"));
}

#[tokio::test]
async fn created_edited_and_deleted_files_are_followed() {
    let root = world(&[]);
    let mut follower = Follower::start(root.path()).await;
    let path = root.path().join("a.yaml");
    fs::write(&path, rule("a", "one")).unwrap();
    follower.until(|world| world.is(&[("a", "one")])).await;
    fs::write(&path, rule("a", "two")).unwrap();
    follower.until(|world| world.is(&[("a", "two")])).await;
    fs::write(&path, rule("b", "two")).unwrap();
    follower.until(|world| world.is(&[("b", "two")])).await;
    fs::remove_file(&path).unwrap();
    follower.until(|world| world.is(&[])).await;
}

#[tokio::test]
async fn new_and_moved_directories_are_followed() {
    let root = world(&[]);
    let mut follower = Follower::start(root.path()).await;
    fs::create_dir_all(root.path().join("x/y")).unwrap();
    fs::write(root.path().join("x/y/a.yaml"), rule("a", "one")).unwrap();
    follower.until(|world| world.is(&[("a", "one")])).await;
    fs::rename(root.path().join("x"), root.path().join("z")).unwrap();
    fs::write(root.path().join("z/y/a.yaml"), rule("a", "two")).unwrap();
    follower.until(|world| world.is(&[("a", "two")])).await;
    fs::remove_dir_all(root.path().join("z")).unwrap();
    follower.until(|world| world.is(&[])).await;
    assert_eq!(follower.log, ["+a", "+a", "-a"]);
}

#[tokio::test]
async fn an_object_removed_from_its_file_is_deleted() {
    let root = world(&[("a.yaml", rule("a", "one") + &rule("b", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    fs::write(root.path().join("a.yaml"), rule("b", "one")).unwrap();
    follower.until(|world| world.is(&[("b", "one")])).await;
    assert_eq!(follower.log, ["+a", "+b", "-a"]);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_yields_nothing() {
    let root = world(&[("a.yaml", rule("a", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    fs::write(root.path().join("a.yaml"), format!("# a comment\n{}---\n", rule("a", "one"))).unwrap();
    fs::write(root.path().join("b.yaml"), rule("b", "one")).unwrap();
    follower.until(|world| world.hosts.contains_key("b")).await;
    assert_eq!(follower.log, ["+a", "+b"]);
}

#[tokio::test]
async fn an_invalid_edit_keeps_the_last_good_state_and_says_where() {
    let root = world(&[("a.yaml", rule("a", "one") + &rule("b", "one")), ("c.yaml", rule("c", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    let path = root.path().join("a.yaml");
    fs::write(&path, rule("a", "two") + "---\nkind: [\n").unwrap();
    let place = format!("{}:", path.display());
    follower.until(|world| world.says(&place)).await;
    assert!(follower.is(&[("a", "one"), ("b", "one"), ("c", "one")]), "{:?}", follower.hosts);
    fs::write(root.path().join("c.yaml"), rule("c", "two")).unwrap();
    follower.until(|world| world.is(&[("a", "one"), ("b", "one"), ("c", "two")])).await;
    fs::write(&path, rule("a", "two")).unwrap();
    follower.until(|world| world.is(&[("a", "two"), ("c", "two")]) && world.findings.is_empty()).await;
}

#[tokio::test]
async fn a_refused_object_keeps_its_own_last_good_version_only() {
    let root = world(&[("a.yaml", rule("a", "one") + &rule("b", "one") + &rule("c", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    let text = rule("a", "two") + &rule("b", "two") + "  hosst: typo\n";
    fs::write(root.path().join("a.yaml"), text).unwrap();
    follower.until(|world| world.says("hosst") && world.is(&[("a", "two"), ("b", "one")])).await;
    assert!(follower.says("a.yaml:15:3"), "{:?}", follower.findings);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_said_with_its_place() {
    let root = world(&[("a.yaml", rule("a", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    fs::write(root.path().join("a.yaml"), b"ok: 1\nnot: \xff\n").unwrap();
    follower.until(|world| world.says("a.yaml:2:6) not UTF-8")).await;
    assert!(follower.is(&[("a", "one")]));
}

#[tokio::test]
async fn the_first_file_by_name_wins_and_the_other_is_told() {
    let root = world(&[("b.yaml", rule("x", "from-b"))]);
    let mut follower = Follower::start(root.path()).await;
    fs::write(root.path().join("a.yaml"), rule("x", "from-a")).unwrap();
    follower.until(|world| world.is(&[("x", "from-a")]) && world.says("a.yaml:")).await;
    assert!(follower.findings.contains_key(&Scope::File(root.path().join("b.yaml").display().to_string())));
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    follower.until(|world| world.is(&[("x", "from-b")]) && world.findings.is_empty()).await;
    assert_eq!(follower.log, ["+x", "+x", "+x"]);
}

#[tokio::test]
async fn renaming_a_file_changes_nothing() {
    let root = world(&[("a.yaml", rule("a", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    fs::rename(root.path().join("a.yaml"), root.path().join("z.yaml")).unwrap();
    // The edit proves that the renamed file is followed, and the log that nothing was deleted meanwhile.
    fs::write(root.path().join("z.yaml"), rule("a", "two")).unwrap();
    follower.until(|world| world.is(&[("a", "two")])).await;
    fs::write(root.path().join("y.yaml"), rule("last", "one")).unwrap();
    follower.until(|world| world.hosts.contains_key("last")).await;
    assert!(!follower.log.contains(&"-a".to_owned()) && follower.findings.is_empty(), "{:?}", follower.log);
}

#[tokio::test]
async fn an_editor_that_renames_over_never_deletes() {
    let root = world(&[("a.yaml", rule("a", "h0"))]);
    let mut follower = Follower::start(root.path()).await;
    let path = root.path().join("a.yaml");
    for turn in 1..=20 {
        // As vim does it: the old file aside, a new one in its place; and swap files beside it.
        fs::write(root.path().join(".a.yaml.swp"), "swap").unwrap();
        fs::rename(&path, root.path().join("a.yaml~")).unwrap();
        fs::write(&path, rule("a", &format!("h{turn}"))).unwrap();
        fs::remove_file(root.path().join("a.yaml~")).unwrap();
        follower.until(|world| world.hosts.get("a") == Some(&format!("h{turn}"))).await;
    }
    assert!(!follower.log.contains(&"-a".to_owned()), "{:?}", follower.log);
}

#[tokio::test]
async fn a_file_that_is_still_being_written_does_not_count() {
    let root = world(&[("a.yaml", rule("a", "one") + &rule("b", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    // Truncates, and writes no more for the time being; then a whole document, but not the last one.
    let mut writer = fs::File::create(root.path().join("a.yaml")).unwrap();
    fs::write(root.path().join("c.yaml"), rule("c", "one")).unwrap();
    follower.until(|world| world.hosts.contains_key("c")).await;
    writer.write_all(rule("a", "two").as_bytes()).unwrap();
    fs::write(root.path().join("c.yaml"), rule("c", "two")).unwrap();
    follower.until(|world| world.hosts["c"] == "two").await;
    assert!(follower.is(&[("a", "one"), ("b", "one"), ("c", "two")]), "{:?}", follower.hosts);
    writer.write_all(rule("b", "two").as_bytes()).unwrap();
    drop(writer);
    follower.until(|world| world.is(&[("a", "two"), ("b", "two"), ("c", "two")])).await;
    assert!(!follower.log.iter().any(|entry| entry.starts_with('-')), "{:?}", follower.log);
}

#[tokio::test]
async fn a_writer_that_never_closes_its_file_counts_once_it_is_silent() {
    let root = world(&[]);
    let mut follower = Follower::start(root.path()).await;
    let mut writer = fs::File::create(root.path().join("a.yaml")).unwrap();
    writer.write_all(rule("a", "one").as_bytes()).unwrap();
    follower.until(|world| world.is(&[("a", "one")])).await;
    drop(writer);
}

#[tokio::test]
async fn a_mounted_config_map_flips_as_one() {
    let root = world(&[]);
    let path = root.path();
    let version = |name: &str, host: &str| {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("a.yaml"), rule("a", host)).unwrap();
        fs::write(path.join(name).join("b.yaml"), rule("b", host)).unwrap();
        std::os::unix::fs::symlink(name, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    version("..1", "one");
    for name in ["a.yaml", "b.yaml"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), path.join(name)).unwrap();
    }
    let mut follower = Follower::start(path).await;
    assert!(follower.is(&[("a", "one"), ("b", "one")]));
    version("..2", "two");
    fs::remove_dir_all(path.join("..1")).unwrap();
    follower.until(|world| world.is(&[("a", "two"), ("b", "two")])).await;
    assert_eq!(follower.log, ["+a", "+b", "+a", "+b"]);
}

#[tokio::test]
async fn a_root_that_goes_away_keeps_the_last_state_until_it_is_back() {
    let root = world(&[]);
    let path = root.path().join("conf");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), rule("a", "one")).unwrap();
    let mut follower = Follower::start(&path).await;
    fs::rename(&path, root.path().join("aside")).unwrap();
    follower.until(|world| !world.connected).await;
    assert!(follower.is(&[("a", "one")]));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("b.yaml"), rule("b", "one")).unwrap();
    follower.until(|world| world.connected && world.is(&[("b", "one")])).await;
    assert_eq!(follower.synced, 1);
}

#[tokio::test]
async fn a_file_beyond_the_bound_is_refused_and_its_objects_stay() {
    let root = world(&[("a.yaml", rule("a", "one"))]);
    let mut follower = Follower::start(root.path()).await;
    let file = fs::OpenOptions::new().write(true).open(root.path().join("a.yaml")).unwrap();
    file.set_len(api::parse::FILE_BYTES_MAX as u64 + 1).unwrap();
    drop(file);
    follower.until(|world| world.says("more than 8388608 bytes")).await;
    assert!(follower.is(&[("a", "one")]));
}

#[tokio::test]
async fn a_dropped_receiver_ends_the_source() {
    let root = world(&[]);
    let (sender, receiver) = mpsc::channel(16);
    let running = tokio::spawn(super::Directory::open(root.path().to_owned()).unwrap().run(sender));
    drop(receiver);
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
}
