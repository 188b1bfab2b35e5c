//! Logins and tokens: who gets which, and how often.

use super::*;

#[tokio::test]
async fn basic_auth_is_sent_when_asked_for_and_to_this_registry_only() {
    let world = World::new(Access::Basic { user: "lab".to_owned(), password: "pw-1".to_owned() }).await;
    world.graph(&world.logged_in("lab", "pw-1")).await.unwrap();
    let requests = world.requests();
    assert_eq!(
        requests.iter().map(|r| r.status).filter(|s| *s == 401).count(),
        1,
        "asked once: {requests:?}"
    );

    let error = world.graph(&world.client()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }) && error.to_string().contains("--auth-file"));
    let wrong = world.logged_in("lab", "pw-2");
    let error = world.graph(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("login of the user (lab) was refused") && !error.contains("pw-2"), "{error}");
    assert!(!format!("{wrong:?}").contains("pw-2"));

    // The same client at another registry, which asks as well.
    let other = World::new(Access::Basic { user: "lab".to_owned(), password: "pw-1".to_owned() }).await;
    let mut options = world.logged_in("lab", "pw-1").options().clone();
    options.plain_http.push(other.server.addr().to_string());
    let client = Registry::new(options).unwrap();
    world.graph(&client).await.unwrap();
    let error = other.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(other.requests().iter().all(|r| !r.authorized), "{:?}", other.requests());
}

#[tokio::test]
async fn a_login_does_not_follow_a_redirect() {
    let world = World::new(Access::Basic { user: "lab".to_owned(), password: "pw".to_owned() }).await;
    let store = World::open().await;
    let client = world.logged_in("lab", "pw");
    world.faults.add(Scope::Blob, 1, Fault::Redirect { to: format!("http://{}/", store.server.addr()) });
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    assert!(world.requests().iter().any(|r| r.status == 307 && r.authorized));
    assert_eq!(store.requests().len(), 1);
    assert!(!store.requests()[0].authorized);

    let again = Fault::Redirect { to: format!("http://{}/", world.server.addr()) };
    world.faults.add(Scope::Blob, 100, again);
    let error = world.whole(&client).await.unwrap_err().to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
}

fn bearer(lifetime: Duration) -> Access {
    Access::Bearer { login: Some(("lab".to_owned(), "pw".to_owned())), lifetime }
}

fn tokens(world: &World) -> usize {
    world.requests().iter().filter(|r| r.path == "/token").count()
}

#[tokio::test]
async fn one_token_serves_a_whole_image() {
    let world = World::new(bearer(Duration::from_secs(300))).await;
    let client = world.logged_in("lab", "pw");
    world.graph(&client).await.unwrap();
    let all = (0..8u64).map(|i| world.part(&client, i, i + 1000));
    for part in futures_util::future::join_all(all).await {
        part.unwrap();
    }
    assert_eq!(tokens(&world), 1);
    let error = world.graph(&world.logged_in("lab", "nope")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    let error = world.graph(&world.client()).await.unwrap_err().to_string();
    assert!(error.contains("--password-stdin"), "{error}");
}

#[tokio::test]
async fn a_token_that_ran_out_or_was_withdrawn_is_renewed() {
    let world = World::new(bearer(Duration::from_secs(1))).await;
    let client = world.logged_in("lab", "pw");
    world.part(&client, 0, 10).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    world.part(&client, 0, 10).await.unwrap();
    assert_eq!(tokens(&world), 2);
    let refused = world.requests().iter().filter(|r| r.status == 401).count();
    assert_eq!(refused, 1, "only the very first request went without a token");

    let world = World::new(bearer(Duration::from_secs(300))).await;
    let client = world.logged_in("lab", "pw");
    world.graph(&client).await.unwrap();
    world.faults.add(Scope::Blob, 2, Fault::Refuse);
    world.part(&client, 0, 10).await.unwrap();
    assert_eq!(tokens(&world), 2);
    world.part(&client, 0, 10).await.unwrap();
    assert_eq!(tokens(&world), 2, "the new token is used from then on");
    world.faults.add(Scope::Token, 1, Fault::Status { code: 503, retry_after: None });
    world.faults.add(Scope::Blob, 3, Fault::Refuse);
    world.part(&client, 0, 10).await.unwrap();
    assert_eq!(tokens(&world), 4, "the token service may fail for a moment, too");
}

/// Requests for the big layer by `oci-client`: ours ask for the whole of it without a range.
fn streamed(world: &World) -> usize {
    let path = format!("/v2/lab/web/blobs/{}", world.big.digest());
    world.gets().iter().filter(|r| r.path == path && r.range.as_deref() == Some("bytes=0-")).count()
}

#[tokio::test]
async fn a_blob_costs_one_request_whatever_login_there_is() {
    let password = Access::Basic { user: "lab".to_owned(), password: "pw".to_owned() };
    for access in [Access::Open, password, bearer(Duration::from_secs(300))] {
        let world = World::new(access).await;
        let client = world.logged_in("lab", "pw");
        world.graph(&client).await.unwrap();
        let before = world.requests().len();
        for _ in 0..3 {
            assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
        }
        assert_eq!((streamed(&world), world.requests().len()), (3, before + 3), "{:?}", world.requests());
    }
}

#[tokio::test]
async fn a_login_that_oci_client_cannot_carry_is_carried_by_us() {
    let world = World::new(bearer(Duration::from_secs(300))).await;
    let client = world.logged_in("lab", "pw");
    world.graph(&client).await.unwrap();
    world.faults.add(Scope::Blob, 1, Fault::Refuse);
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    assert_eq!((streamed(&world), tokens(&world)), (1, 1), "refused there, good here");
    let before = world.requests().len();
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    assert_eq!(
        (streamed(&world), world.requests().len()),
        (1, before + 1),
        "not tried again with this token"
    );
    world.faults.add(Scope::Blob, 1, Fault::Refuse);
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    assert_eq!((streamed(&world), tokens(&world)), (1, 2));
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    assert_eq!(streamed(&world), 2, "with a new token it is");
}

#[tokio::test]
async fn a_blobs_error_without_end_is_dropped() {
    let world = World::open().await;
    world.faults.add(Scope::Blob, 100, Fault::EndlessError);
    let error = world.whole(&world.impatient()).await.unwrap_err().to_string();
    assert!(error.contains("answers 418"), "{error}");
}

#[tokio::test]
async fn a_token_is_for_anonymous_users_too() {
    let world = World::new(Access::Bearer { login: None, lifetime: Duration::from_secs(60) }).await;
    world.graph(&world.client()).await.unwrap();
    let token: Vec<Request> = world.requests().into_iter().filter(|r| r.path == "/token").collect();
    assert!(token.len() == 1 && !token[0].authorized);
}

#[tokio::test]
async fn a_login_that_cannot_be_read_matters_only_when_one_is_wanted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, r#"{"credsStore": "omk-none-such"}"#).unwrap();
    let credentials = || Credentials::anonymous().with_file(file.path());
    let public = World::new(Access::Bearer { login: None, lifetime: Duration::from_secs(60) }).await;
    let client = Registry::new(RegistryOptions { credentials: credentials(), ..public.options() }).unwrap();
    public.graph(&client).await.unwrap();
    let private = World::new(bearer(Duration::from_secs(60))).await;
    let client = Registry::new(RegistryOptions { credentials: credentials(), ..private.options() }).unwrap();
    let error = private.graph(&client).await.unwrap_err().to_string();
    assert!(error.contains("cannot run docker-credential-omk-none-such"), "{error}");
}
