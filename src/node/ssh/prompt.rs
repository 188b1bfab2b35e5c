//! What a server asks, made fit to be shown. It comes from a peer that has not been logged in to: it must not move the
//! cursor, pretend to be omk, or be without end.

/// Rounds of questions in one attempt.
pub(super) const ROUNDS: usize = 10;
/// Questions in one round.
pub(super) const QUESTIONS: usize = 16;

pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}

/// Goes before a question; says who asks.
pub(super) fn header(address: &str, name: &str, instructions: &str) -> String {
    let said: Vec<String> = [name, instructions].into_iter().map(clean).filter(|t| !t.is_empty()).collect();
    if said.is_empty() {
        format!("{address} asks: ")
    } else {
        format!("{address} says: {}; it asks: ", said.join("; "))
    }
}

/// PAM's `Password:` and what others make of it. A question for a one-time password is none of these.
pub(super) fn wants_password(question: &str, echo: bool) -> bool {
    let text = clean(question).to_ascii_lowercase();
    let text = text.trim_end_matches([':', '?', ' ']);
    let once = ["one-time", "one time", "otp", "new ", "retype", "again", "change"];
    !echo && text.ends_with("password") && !once.iter().any(|w| text.contains(w))
        || !echo && text.contains("password for ") && !once.iter().any(|w| text.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_password_is_answered_without_asking() {
        for yes in ["Password: ", "(root@10.0.0.1) Password:", "password for core@n1: ", "core's password"] {
            assert!(wants_password(yes, false), "{yes}");
        }
        for no in [
            "Verification code: ",
            "One-time password: ",
            "New password: ",
            "Password (OTP): ",
            "Password changed?",
        ] {
            assert!(!wants_password(no, false), "{no}");
        }
        assert!(!wants_password("Password: ", true));
    }

    #[test]
    fn what_a_server_asks_cannot_move_the_cursor() {
        assert_eq!(clean("\u{1b}[2Jomk: \r\n your key?"), "[2Jomk:  your key?");
        assert!(clean(&"x".repeat(5000)).len() <= 200);
    }
}
