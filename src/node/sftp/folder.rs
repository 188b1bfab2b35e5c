//! Making the staging folder, and seeing that nobody else's is taken for one.

use crate::node::hold::{self, KEEP_DAYS};
use crate::node::{NodeError, NodeSession, RemoteCommand, quote};

/// Status of [`prepare`] when the folder is not the user's own: root can help.
const NOT_OURS: i32 = 73;
/// Status when the folder is something else: nobody may touch it.
const NOT_STAGING: i32 = 74;
/// Status when another user's run is at work in it.
const BUSY: i32 = 76;

/// Creates the folders as whoever runs it and prints the partial blobs. With `owner`, gives all to that user (and so
/// must be run by root).
fn prepare(root: &str, uid: u32, owner: Option<u32>) -> String {
    // What another user's living run writes to must not be given away. Who only looks shares the lock, so that nobody else who looks is
    // refused by it, and looks twice: the first time it may have been one who looked, or the holder's name may not stand there yet.
    let living = match owner {
        Some(_) => format!(
            "if [ -f \"$r/.omk-staging\" ] && command -v flock >/dev/null 2>&1; then\n\
             free() {{ flock -s -n \"$r/.omk-staging\" true; [ $? != 1 ]; }}\n\
             free || {{ sleep 1; free; }} || {{ sed -n 2p \"$r/.omk-staging\" | head -c 1000; exit {BUSY}; }}\n\
             fi\n"
        ),
        None => String::new(),
    };
    let give = match owner {
        Some(gid) => format!("chown -hR {uid}:{gid} \"$r\"\nexit 0\n"),
        None => String::new(),
    };
    // `find -prune -type d -user` instead of `[ -d -a -O ]`: a link to a folder must not pass.
    format!(
        "r={root}\n\
         if [ -L \"$r\" ]; then exit {NOT_STAGING}; fi\n\
         if [ -e \"$r\" ] && ! [ -e \"$r/.omk-staging\" ]; then\n\
         ls -A \"$r\" 2>/dev/null | grep -qvx -e blobs -e partial -e .omk-staging && exit {NOT_STAGING}\n\
         fi\n\
         {living}{parents}\
         umask 077\n\
         for d in \"$r\" \"$r/blobs\" \"$r/blobs/sha256\" \"$r/blobs/sha512\" \"$r/partial\"; do\n\
         if [ -L \"$d\" ]; then exit {NOT_STAGING}; fi\n\
         mkdir -p \"$d\" || exit {NOT_OURS}\n\
         done\n\
         : >>\"$r/.omk-staging\" || exit {NOT_OURS}\n\
         {give}\
         for d in \"$r\" \"$r/blobs\" \"$r/blobs/sha256\" \"$r/blobs/sha512\" \"$r/partial\"; do\n\
         [ -n \"$(find \"$d\" -prune -type d -user {uid})\" ] || exit {NOT_OURS}\n\
         done\n\
         chmod 700 \"$r\" || exit {NOT_OURS}\n\
         find \"$r/partial\" -type f -mtime +{KEEP_DAYS} -exec rm -f {{}} +\n\
         cd \"$r\" && find blobs partial -type f | head -n 200000\n",
        root = quote(root),
        parents = match owner {
            Some(_) => "p=${r%/*}; [ -d \"${p:-/}\" ] || (umask 022; mkdir -p \"$p\") || exit 75\n",
            None => "p=${r%/*}; [ -d \"${p:-/}\" ] || mkdir -p \"$p\" 2>/dev/null || exit 73\n",
        },
    )
}

/// Makes the folder `root` a staging folder of the user `uid`, if need be as root; returns the files that are in
/// it, one a line, relative to it.
pub(crate) async fn prepare_folder(
    session: &dyn NodeSession,
    root: &str,
    uid: u32,
    gid: u32,
    node: &str,
) -> Result<String, NodeError> {
    let own = RemoteCommand::user(prepare(root, uid, None));
    let mut output = session.run(&own).await?;
    if output.status == NOT_OURS {
        output = session.run(&RemoteCommand::root(prepare(root, uid, Some(gid)))).await?;
        if output.ok() {
            output = session.run(&own).await?;
        }
    }
    let complaint = match output.status {
        0 => return Ok(output.text()),
        BUSY => return Err(NodeError::Busy { holder: hold::clean(&output.text()) }),
        NOT_STAGING => "something else is there: name a new or empty folder, no symbolic link".to_owned(),
        _ => output.complaint(),
    };
    let what = format!("making the staging folder {root} on {node}");
    Err(NodeError::Command { what, status: output.status, complaint })
}
