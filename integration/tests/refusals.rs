//! What the programs say to a wrong config or question: where it is, what would be right, and no success.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::process::{Command, Output};

use wireplug_lab::{Binaries, Lab, Nat};

/// An interface that no machine has.
const NOWHERE: &str = "wgnowhere0";

const KEY: &str = "TF948Xg+BEjtWy+CreOVFAucyoktNFoqmIAEalp3g2g=";

fn run(program: &str, arguments: &[&str]) -> Output {
    let program = Binaries::beside_current_exe().unwrap().path(program).unwrap();
    Command::new(program).args(arguments).env_remove("WIREPLUG_LOG").output().unwrap()
}

/// The program must fail, say each of `words` on standard error, and nothing on standard output.
fn refuses(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} lacks {word:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Each of these texts, as a config of `program`, is refused with the file, the line and these words.
fn refuses_configs(program: &str, arguments: &[&str], configs: &[(&str, usize, &[&str])]) {
    let directory = tempfile::tempdir().unwrap();
    for (number, (text, line, words)) in configs.iter().enumerate() {
        let file = directory.path().join(format!("config{number}.toml"));
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let output = run(program, &[arguments, &["--config", &file]].concat());
        let place = format!("{file}:{line}");
        refuses(&output, &[&[place.as_str()], *words].concat());
    }
}

#[test]
fn a_wrong_config_is_refused_with_its_line_and_what_would_be_right() {
    let in_interface = |rest: &str| format!("[interface.{NOWHERE}]\n{rest}\n");
    let peer = |rest: &str| format!("[interface.{NOWHERE}.peer.\"{KEY}\"]\n{rest}\n");
    let (list, option) =
        (in_interface("strategies = \"direct\""), in_interface("strategy.hole-punch.refresh = 7"));
    let (unknown, twice) = (
        in_interface("strategy.hole-punch.speed = 1"),
        in_interface("strategies = [\"direct\", \"direct\"]"),
    );
    let (endpoint, name) = (peer("endpoint = \"home.example.org\""), peer("name = 7"));
    refuses_configs(
        "wireplug",
        &[NOWHERE],
        &[
            ("\n\nservers = 3\n", 3, &["servers", "server, interface"]),
            ("[server]\nurl = \"wss://a.example\"\n", 1, &["[[server]]"]),
            ("[[server]]\nurl = 7\n", 2, &["url", "an integer", "wss://HOST"]),
            ("[[server]]\nurl = \"https://a.example\"\n", 2, &["wss://HOST[:PORT]"]),
            (
                "[[server]]\npin = \"sha256/AAAA\"\nurl = \"wss://a.example\"\n",
                2,
                &["sha256/", "wireplug-serverd pin"],
            ),
            ("[[server]]\n\n", 1, &["no url", "wss://HOST"]),
            ("[[server]]\nurl = \"wss://a.example\"\npins = 1\n", 3, &["pins", "url, pin"]),
            ("a = \n", 1, &[]),
            (&list, 2, &["strategies", "a string", "a list"]),
            (&option, 2, &["refresh", "5s"]),
            (&unknown, 2, &["speed", "refresh"]),
            (&twice, 2, &["twice"]),
            (&endpoint, 2, &["home.example.org", "NAME:PORT"]),
            (&name, 2, &["name", "an integer", "a string"]),
            ("[interface.\"a/b\"]\n", 1, &["a/b"]),
        ],
    );
}

#[test]
fn a_config_that_is_not_there_or_not_text_is_named() {
    refuses(
        &run("wireplug", &[NOWHERE, "--config", "/nowhere/x.toml"]),
        &["/nowhere/x.toml", "No such file"],
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("binary.toml");
    std::fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    let file = file.display().to_string();
    refuses(&run("wireplug", &[NOWHERE, "--config", &file]), &[&file]);
    refuses(&run("wireplug-serverd", &["--config", &file]), &[&file]);
    refuses(&run("wireplug-serverd", &["--config", "/nowhere/x.toml"]), &["/nowhere/x.toml"]);
    refuses(&run("wireplugd", &["--config", "/nowhere/x.toml"]), &["/nowhere/x.toml"]);
}

#[test]
fn wrong_words_on_the_command_line_are_refused() {
    refuses(&run("wireplug", &[]), &["Usage"]);
    refuses(&run("wireplug", &["a/b"]), &["a/b"]);
    refuses(&run("wireplug", &[NOWHERE, "--server", "http://a.example"]), &["--server", "wss://HOST"]);
    refuses(
        &run("wireplug", &[NOWHERE, "--server", "wss://a.example", "--pin", "sha1/x"]),
        &["--pin", "wireplug-serverd pin"],
    );
}

#[test]
fn the_servers_wrong_config_is_refused_with_its_line() {
    refuses_configs(
        "wireplug-serverd",
        &[],
        &[
            ("\nlisten = 443\n", 2, &["443", "[::]:443"]),
            ("listen = \"nowhere\"\n", 1, &["nowhere"]),
            ("udp = [\"[::]\"]\n", 1, &["[::]"]),
            ("public = [\"x\"]\n", 1, &["x"]),
            ("colour = \"red\"\n", 1, &["colour", "listen", "state-dir"]),
            ("[relay]\nports = \"9-3\"\n", 2, &["9-3"]),
            ("[relay]\nport = 9\n", 2, &["port", "ports", "enabled"]),
        ],
    );
}

#[test]
fn wireplugd_without_any_interface_says_how_to_name_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.toml");
    std::fs::write(&file, "").unwrap();
    refuses(&run("wireplugd", &["--config", &file.display().to_string()]), &["[interface.NAME]"]);
}

/// In a namespace of its own, where nobody else's daemons can be found.
#[test]
fn status_without_a_daemon_says_so() {
    Lab::with("no-status", |lab| {
        let host = lab.site("a", Nat::None)?.host()?;
        let program = Binaries::beside_current_exe()?.path("wireplug")?;
        let program = program.display().to_string();
        for question in
            [&["status"][..], &["status", "wg0"], &["status", "--json"], &["status", "wg0", "--json"]]
        {
            let error = host.run(&[&[program.as_str()], question].concat()).unwrap_err().to_string();
            assert!(error.contains("no wireplug") || error.contains("not running"), "{question:?}: {error}");
        }
        Ok(())
    })
    .unwrap();
}

/// Only root may ask a daemon; others are told so.
#[test]
fn status_is_for_root_only() {
    use wireplug_lab::{Pair, PairOptions};
    Pair::with("status-root", [Nat::None, Nat::None], &PairOptions::default(), |pair| {
        let daemon = pair.a.wireplug()?;
        daemon.wait_state(pair.b.wireguard.public_key(), "gathering", std::time::Duration::from_secs(10))?;
        let program = Binaries::beside_current_exe()?.path("wireplug")?;
        let (program, device) = (program.display().to_string(), pair.a.wireguard.device());
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        let question = [&nobody[..], &[&program, "status", device]].concat();
        let error = pair.a.host.run(&question).unwrap_err().to_string();
        assert!(error.contains("root"), "{error}");
        Ok(())
    })
    .unwrap();
}
