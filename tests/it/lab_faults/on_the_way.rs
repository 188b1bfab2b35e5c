//! The line, the sender, and the node as a machine.

use super::*;

/// A sender and two nodes, and how fast it sends: slow enough to be caught in the act.
struct Way {
    lab: Lab,
    sender: Sender,
}

const RATE: &str = "8MB/s";
/// A dead peer is noticed within seconds, not within a minute.
const IMPATIENT: [&str; 2] = ["--ssh-config", "impatient"];

#[tokio::test(flavor = "multi_thread")]
async fn lab_what_breaks_on_the_way_is_gone_on_with() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &layers(&[17, 13, 1])).await;
    let way = Way { lab: Lab::up(2), sender };
    tokio::task::block_in_place(|| {
        type Step = fn(&Way);
        let steps: [(&str, Step); 6] = [
            ("the line is cut", Way::the_line_is_cut),
            ("the node restarts", Way::the_node_restarts),
            ("the sender dies", Way::the_sender_dies),
            ("sshd hangs", Way::sshd_hangs),
            ("two runs at once", Way::two_runs_at_once),
            ("one node is slow", Way::one_node_is_slow),
        ];
        for (name, step) in steps {
            let begun = Instant::now();
            step(&way);
            println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
        }
    });
}

impl Way {
    /// A run that has begun to send.
    fn sending(&self, rate: &str, more: &[&str]) -> Running {
        forget(&self.lab, 1);
        let all = [&["--node-bandwidth", rate], more].concat();
        let mut running = start(&mut self.sender.preheat(&self.lab, &all));
        running.until("two pieces on the node", || journaled(&self.lab, 1) >= 2);
        running
    }

    /// The next run goes on with what is there.
    fn resumes(&self, sender: &Sender, command: &mut Command) {
        // sshd takes a moment to see that the dead run's connection has ended, and with it the lock.
        let logged_in = "n=0; while pgrep -f 's[s]hd: root' >/dev/null && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done";
        sh(&self.lab, 1, logged_in);
        let ran = run(command).good();
        assert!(ran.number("bytes_resumed") >= 8 << 20, "{}", ran.out);
        assert!(ran.number("bytes_sent") < sender.size() - (8 << 20) + (1 << 20), "{}", ran.out);
        proved(&self.lab, 1, sender);
    }

    fn the_line_is_cut(&self) {
        let running = self.sending(RATE, &[]);
        sh(&self.lab, 1, "pkill -KILL -f 's[s]hd: root'");
        let ran = running.end().good();
        let told = |words: &[&str]| {
            let line = ran.told.lines().find(|l| words.iter().all(|w| l.contains(w)));
            println!("cut: {}", line.unwrap_or_else(|| panic!("{words:?}: {}", ran.told)));
        };
        told(&["node1: ", "trying again in"]);
        told(&["node1: ", " resumes at "]);
        proved(&self.lab, 1, &self.sender);
    }

    fn the_node_restarts(&self) {
        let running = self.sending(RATE, &IMPATIENT);
        self.lab.stop_node(1);
        running.end().bad("restarted", &[":22", "run the same command again"]);
        self.lab.start_node(1);
        only_resumable(&self.lab, 1);
        self.resumes(&self.sender, &mut self.sender.preheat(&self.lab, &[]));
    }

    /// The other machine's clock is wrong, and the node's was when the first run wrote to it.
    fn the_sender_dies(&self) {
        let mut running = self.sending(RATE, &[]);
        running.child.kill().unwrap();
        running.end();
        only_resumable(&self.lab, 1);
        sh(&self.lab, 1, &format!("find {STAGING} -type f -exec touch -d '+2 days' {{}} +"));
        let other = self.sender.elsewhere();
        let usual = other.preheat(&self.lab, &[]);
        let mut skewed = Command::new("faketime");
        skewed.args(["-f", "-400d"]).arg(usual.get_program()).args(usual.get_args());
        skewed.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        other.at_home(&mut skewed);
        self.resumes(&other, &mut skewed);
    }

    fn sshd_hangs(&self) {
        let running = self.sending(RATE, &IMPATIENT);
        sh(&self.lab, 1, "pkill -STOP sshd");
        let ran = running.end();
        sh(&self.lab, 1, "pkill -CONT sshd");
        ran.bad("hung", &["no answer within 3 s", "run the same command again"]);
        only_resumable(&self.lab, 1);
        self.resumes(&self.sender, &mut self.sender.preheat(&self.lab, &[]));
    }

    fn two_runs_at_once(&self) {
        let running = self.sending("4MB/s", &[]);
        let other = self.sender.elsewhere();
        let words = ["another run is at work on this node: omk on ", "wait until it has ended"];
        run(&mut other.preheat(&self.lab, &[])).bad("two runs", &words);
        running.end().good();
        proved(&self.lab, 1, &self.sender);
        assert_eq!(run(&mut other.preheat(&self.lab, &[])).good().number("bytes_sent"), 0);
    }

    fn one_node_is_slow(&self) {
        forget(&self.lab, 1);
        let more = ["--node-bandwidth", RATE, "--limit", "node1,node2"];
        let mut running = start(&mut self.sender.preheat(&self.lab, &more));
        // Its connection stands still from here on, until the other one is done.
        running.until("the slow node", || journaled(&self.lab, 2) >= 1);
        sh(&self.lab, 2, "pkill -STOP sftp-server");
        let files = running.files[1].path().to_owned();
        running.until("the fast node's end", || {
            std::fs::read_to_string(&files).unwrap().contains("node1: ready")
        });
        proved(&self.lab, 1, &self.sender);
        sh(&self.lab, 2, "pkill -CONT sftp-server");
        let ran = running.end().good();
        assert_eq!(ran.node("node2")["state"], "ready", "{}", ran.out);
        proved(&self.lab, 2, &self.sender);
    }
}
