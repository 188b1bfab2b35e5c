//! A sender that dies while two images are imported at the same time.

use super::*;

/// The node's `ctr` notes each import that begins and ends, and holds up those of the first run until `/tmp/go` is there.
const SLOW_IMPORTS: &str = r#"echo 'echo 2' >/tmp/nproc && chmod 755 /tmp/nproc && mv /tmp/nproc /usr/bin/nproc
mv /usr/bin/ctr /usr/bin/ctr.real; cat >/usr/bin/ctr <<'END'
#!/bin/sh
case " $* " in *' images import '*) ;; *) exec /usr/bin/ctr.real "$@" ;; esac
echo "begins $$" >>/tmp/imports
n=0; while [ ! -e /tmp/go ] && [ $n -lt 1200 ]; do sleep 0.1; n=$((n+1)); done
/usr/bin/ctr.real "$@"; r=$?
echo "ends $$" >>/tmp/imports
exit $r
END
chmod 755 /usr/bin/ctr"#;

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_sender_that_dies_during_two_imports_leaves_what_the_next_run_completes() {
    if !Lab::required() {
        return;
    }
    let of = |seed: usize| layers(&vec![1; seed + 1]).split_off(seed);
    let sender = Sender::of("linux/amd64", &[&of(0), &of(1)]).await;
    let lab = Lab::up(1);
    tokio::task::block_in_place(|| {
        sh(&lab, 1, SLOW_IMPORTS);
        let imports = |what: &str| {
            sh(&lab, 1, &format!("grep -c '^{what}' /tmp/imports 2>/dev/null || :"))
                .trim()
                .parse::<usize>()
                .unwrap_or(0)
        };
        let mut first = start(&mut sender.preheat(&lab, &[]));
        first.until("two imports at the same time", || imports("begins") == 2);
        first.child.kill().unwrap();
        first.end();
        let logged_in = "n=0; while pgrep -f 's[s]hd: root' >/dev/null && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done";
        sh(&lab, 1, logged_in);
        assert_eq!(imports("ends"), 0, "neither has an end");

        let mut next = start(&mut sender.preheat(&lab, &[]));
        let told = next.files[1].path().to_owned();
        next.until("the next run", || std::fs::read_to_string(&told).unwrap().contains("node1: sending"));
        // Time in which it would import, if it did not wait.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!((imports("begins"), imports("ends")), (2, 0), "it waits for both");
        sh(&lab, 1, "touch /tmp/go");
        let ran = next.end().good();
        assert_eq!(ran.number("bytes_sent"), 0, "all was staged");
        proved(&lab, 1, &sender);
        let check = sh(&lab, 1, "ctr -n k8s.io images check");
        assert!(!check.contains("incomplete") && !check.contains("omk.invalid"), "{check}");
        let order = sh(&lab, 1, "cat /tmp/imports");
        let ended: Vec<&str> = order.lines().take(4).map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(ended, ["begins", "begins", "ends", "ends"], "{order}");
    });
}
