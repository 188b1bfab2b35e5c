# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_omk_global_optspecs
    string join \n progress= h/help V/version
end

function __fish_omk_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_omk_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_omk_using_subcommand
    set -l cmd (__fish_omk_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c omk -n "__fish_omk_needs_command" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_needs_command" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_needs_command" -f -a "bundle" -d 'Build, check and look into bundles'
complete -c omk -n "__fish_omk_needs_command" -f -a "cache" -d 'Look after the images that were pulled'
complete -c omk -n "__fish_omk_needs_command" -f -a "chart" -d 'Render Helm charts'
complete -c omk -n "__fish_omk_needs_command" -f -a "component" -d 'List the components whose images omk knows'
complete -c omk -n "__fish_omk_needs_command" -f -a "image" -d 'Find the images that an input needs, pull images, look into the cache of pulled ones'
complete -c omk -n "__fish_omk_needs_command" -f -a "login" -d 'Try a login at a registry and keep it'
complete -c omk -n "__fish_omk_needs_command" -f -a "logout" -d 'Forget the login for a registry'
complete -c omk -n "__fish_omk_needs_command" -f -a "node" -d 'Show the nodes of an inventory, ask what they have'
complete -c omk -n "__fish_omk_needs_command" -f -a "preheat" -d 'Put a bundle\'s images onto nodes over SSH and prove that they are there'
complete -c omk -n "__fish_omk_needs_command" -f -a "demo" -d 'Show the whole way on this machine: discover, bundle, preheat, patch'
complete -c omk -n "__fish_omk_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c omk -n "__fish_omk_needs_command" -f -a "generate" -d 'Write the manual pages and completion scripts into a folder'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "build" -d 'Pull the images that sources need into a bundle'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "diff" -d 'Show what is different between two bundles: images, charts, layers, bytes'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "merge" -d 'Make one whole bundle of a delta and its base, or of several bundles'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "lock" -d 'Write down what a bundle definition stands for now: the digest of every image, chart and file'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "verify" -d 'Hash every blob of a bundle and name each bad one'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "push" -d 'Put a bundle\'s images into a registry'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "inspect" -d 'Say what is in a bundle'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "list" -d 'List the images of a bundle'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "extract" -d 'Write what is in a bundle into a folder: images as an OCI layout, charts, manifests, files'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "split" -d 'Write a bundle onto volumes: files no larger than a medium, and parity'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "repair" -d 'Compute missing and damaged volumes again from the others'
complete -c omk -n "__fish_omk_using_subcommand bundle; and not __fish_seen_subcommand_from build diff merge lock verify push inspect list extract split repair export" -f -a "export" -d 'Write images of a bundle as a file that other tools read'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l image -d 'An image that is needed whatever the sources say' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l component -d 'Take the images of a component: its newest version, the newest of a line (cilium@1.18) or one (cilium@1.18.12)' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l min-confidence -d 'Leave out what is less sure than this: certain, strong, likely, possible' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l exclude -d 'Leave this image out, may be given more than once: a name without tag stands for all its tags, and * for any characters' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l without-rule -d 'Switch this kind of evidence off, may be given more than once: env, arg, config, chart-annotation …' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l release-name -d 'Name of the release that charts are rendered for [default: that of the chart]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l repo -d 'Chart repository (where its index.yaml is): SOURCES that are no paths here are names of charts in it' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l chart-version -d 'Version, or a constraint such as ^1.2, of the charts of --repo and of those of oci:// that name none' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l source-path -d 'Folder that stands in for a Git repository, an artifact or the charts of a repository: NAME is that of the Flux object, namespace/name, or the address' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l variable -d 'Value of a variable that a Flux object, Compose file or Zarf package leaves open' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s n -l namespace -d 'Namespace of the release' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l kube-version -d 'Version of Kubernetes that the chart is told' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s a -l api-versions -d 'API versions that the chart is told besides those of Kubernetes itself' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s f -l values -d 'Values file, - for standard input; may be given more than once, later ones win' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l set -d 'Value, such as image.tag=1.2,hosts={a,b}' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l set-string -d 'The same, but always text' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l set-json -d 'Value in JSON' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l set-file -d 'Value that is a file\'s content' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l set-literal -d 'Value that is taken as it stands' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l platform -d 'Take this platform of each image, may be given more than once; `all` takes every one that an image has [default: what a bundle definition says, else linux/amd64]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s o -l output -d 'The file or folder to write [default: with a bundle definition NAME.bundle.tar]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l format -d 'One tar file, or a folder' -r -f -a "tar\t'An uncompressed tar file, which `ctr images import` reads as it is'
folder\t'An OCI image layout in a folder'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l since -d 'Make a delta: leave out the blobs that the other side has by this bundle, bundle.lock, or list of what nodes have' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l summary -d 'How the summary is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l parallel -d 'Blobs that are fetched at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l split -d 'Write volumes into the folder that --output names: files no larger than fat32 takes (less than 4 GiB), a dvd, a bd, or a size such as 700MB. The bundle is built in that folder first, so it needs room for both' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l parity -d 'Volumes with parity for each hundred with data, rounded up: as many as there are may be lost' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l volume-name -d 'The beginning of the names of the volumes; not given: the name of the bundle' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l lock-file -d 'The lock of the definition [default: bundle.lock beside bundle.yaml]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l cache -d 'The image cache: read takes from it what is there, fill also puts into it what was not (--cache alone), off does without' -r -f -a "off\t'Registries alone'
read\t'What is in the cache is not fetched'
fill\t'And what was fetched is kept'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l include-disabled -d 'Also take the images that charts can use and, with these values, do not; the same as --min-confidence possible'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l offline -d 'Fetch no charts, no dependencies of charts and, for a bundle, no images: take what was fetched before, and say what is missing'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l no-hooks -d 'Leave out hooks'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l skip-tests -d 'Leave out tests'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l is-upgrade -d 'Render as for an upgrade'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l skip-schema-validation -d 'Do not check values against the chart\'s values.schema.json'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l with-omk -d 'Put this omk beside the volumes'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l locked -d 'Build only what the lock says, and fail where the definition asks for anything else by now'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l with-referrers -d 'Also take what refers to the images: signatures, attestations, SBOMs; one that is listed and lost is an error'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from build" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from diff" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l blobs -d 'Also print every layer that is added or removed'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from diff" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -s o -l output -d 'The file or folder to write' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -l format -d 'One tar file, or a folder' -r -f -a "tar\t'An uncompressed tar file, which `ctr images import` reads as it is'
folder\t'An OCI image layout in a folder'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -l summary -d 'How the summary is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from merge" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l image -d 'An image that is needed whatever the sources say' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l component -d 'Take the images of a component: its newest version, the newest of a line (cilium@1.18) or one (cilium@1.18.12)' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l min-confidence -d 'Leave out what is less sure than this: certain, strong, likely, possible' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l exclude -d 'Leave this image out, may be given more than once: a name without tag stands for all its tags, and * for any characters' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l without-rule -d 'Switch this kind of evidence off, may be given more than once: env, arg, config, chart-annotation …' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l release-name -d 'Name of the release that charts are rendered for [default: that of the chart]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l repo -d 'Chart repository (where its index.yaml is): SOURCES that are no paths here are names of charts in it' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l chart-version -d 'Version, or a constraint such as ^1.2, of the charts of --repo and of those of oci:// that name none' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l source-path -d 'Folder that stands in for a Git repository, an artifact or the charts of a repository: NAME is that of the Flux object, namespace/name, or the address' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l variable -d 'Value of a variable that a Flux object, Compose file or Zarf package leaves open' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s n -l namespace -d 'Namespace of the release' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l kube-version -d 'Version of Kubernetes that the chart is told' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s a -l api-versions -d 'API versions that the chart is told besides those of Kubernetes itself' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s f -l values -d 'Values file, - for standard input; may be given more than once, later ones win' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l set -d 'Value, such as image.tag=1.2,hosts={a,b}' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l set-string -d 'The same, but always text' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l set-json -d 'Value in JSON' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l set-file -d 'Value that is a file\'s content' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l set-literal -d 'Value that is taken as it stands' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l platform -d 'Take this platform of each image [default: what the definition says, else linux/amd64]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l lock-file -d 'The lock to write [default: bundle.lock beside bundle.yaml]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l include-disabled -d 'Also take the images that charts can use and, with these values, do not; the same as --min-confidence possible'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l offline -d 'Fetch no charts, no dependencies of charts and, for a bundle, no images: take what was fetched before, and say what is missing'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l no-hooks -d 'Leave out hooks'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l skip-tests -d 'Leave out tests'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l is-upgrade -d 'Render as for an upgrade'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l skip-schema-validation -d 'Do not check values against the chart\'s values.schema.json'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l with-referrers -d 'Also lock what refers to the images: signatures, attestations, SBOMs; `referrers: true` in the definition says the same'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from lock" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from verify" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l map -d 'Give names that begin with FROM the beginning TO instead; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l parallel -d 'Blobs that are sent at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l chunk -d 'Bytes that are sent with one request, in MiB; this much memory is used for each of --parallel' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l dry-run -d 'Ask what is there and print what would be sent'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l keep-digests -d 'Fail where a registry takes no index with platforms missing, instead of pushing an index of those that are there, which has another digest'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from push" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from inspect" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from inspect" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from inspect" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from inspect" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from list" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from list" -s o -l output -d 'How the list is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from list" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -s o -l output -d 'The folder to write into' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -l only -d 'Only these: images, charts, manifests, files, or another folder in the bundle. Of several kinds those are taken that it has' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -l summary -d 'How the summary is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from extract" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l parity -d 'Volumes with parity for each hundred with data, rounded up: as many as there are may be lost' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l volume-name -d 'The beginning of the names of the volumes; not given: the name of the bundle' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l split -d 'The largest file: fat32 (less than 4 GiB), dvd, bd, or a size such as 700MB or 4GiB' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -s o -l output -d 'The folder to write into' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l summary -d 'How the summary is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -l with-omk -d 'Put this omk beside the volumes'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from split" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from repair" -s o -l output -d 'Write the volumes that are rebuilt here, and touch nothing else' -r -F
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from repair" -l summary -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from repair" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from repair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from repair" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -l image -d 'An image by name, or by its digest; may be given more than once; not given: all' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -s o -l output -d 'docker-archive:PATH, oci-archive:PATH or oci:DIR; PATH - is standard output, and - alone is oci-archive:-' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -l platform -d 'Only this platform of each image' -r
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -l summary -d 'How the summary is printed, on standard error when the archive goes to standard output' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand bundle; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "stats" -d 'Say what is in the image cache and what it was good for'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "gc" -d 'Delete blobs that no image needs, and images by age or until a size is reached'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "verify" -d 'Hash every blob, put damaged ones away and name each image that is not whole'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "clear" -d 'Remove all images but pinned ones'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "pin" -d 'Name images that are never given up'
complete -c omk -n "__fish_omk_using_subcommand cache; and not __fish_seen_subcommand_from stats gc verify clear pin path" -f -a "path" -d 'Print where the image cache is'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from stats" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from stats" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from stats" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l max-size -d 'Give up images until the blobs have at most this size: 20GB, 500MiB' -r
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l older-than -d 'Give up images that were not used for so long: 30d, 12h, 2w' -r
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l pin -d 'Keep these images in this run: a name, or a pattern with * for any characters; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l grace -d 'Keep blobs that no image needs while they are younger' -r
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -l dry-run -d 'Say what would go, and delete nothing'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from gc" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from verify" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -l all -d 'Remove pinned images, the pins and the statistics too'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -l dry-run -d 'Say what would go, and delete nothing'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from clear" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from pin" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from pin" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from pin" -l remove -d 'Take these pins away instead, written as they were'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from pin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from pin" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from path" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from path" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand cache; and __fish_seen_subcommand_from path" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand chart; and not __fish_seen_subcommand_from template functions" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand chart; and not __fish_seen_subcommand_from template functions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand chart; and not __fish_seen_subcommand_from template functions" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand chart; and not __fish_seen_subcommand_from template functions" -f -a "template" -d 'Render a chart\'s manifests, as `helm template` does'
complete -c omk -n "__fish_omk_using_subcommand chart; and not __fish_seen_subcommand_from template functions" -f -a "functions" -d 'List the functions that templates may call, and where each comes from'
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s f -l values -d 'Values file, - for standard input; may be given more than once, later ones win' -r -F
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l set -d 'Value, such as image.tag=1.2,hosts={a,b}' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l set-string -d 'The same, but always text' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l set-json -d 'Value in JSON' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l set-file -d 'Value that is a file\'s content' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l set-literal -d 'Value that is taken as it stands' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l skip-schema-validation -d 'Do not check values against the chart\'s values.schema.json' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s n -l namespace -d 'Namespace of the release' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-version -d 'Version of Kubernetes that the chart is told' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s a -l api-versions -d 'API versions that the chart is told besides those of Kubernetes itself' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l no-hooks -d 'Leave out hooks' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l skip-tests -d 'Leave out tests' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l is-upgrade -d 'Render as for an upgrade' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s g -l generate-name -d 'Leave out NAME: the release is called release-name, as helm template does' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l name-template -d 'Go template that gives the name of the release' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l include-crds -d 'Print the custom resource definitions under crds/ too' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s s -l show-only -d 'Only print what comes from this template, such as templates/deployment.yaml' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l output-dir -d 'Write a file for each template into this folder instead of printing' -r -F
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l release-name -d 'Put a folder with the name of the release below --output-dir' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l repo -d 'Repository that has the chart: where its index.yaml is' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l version -d 'Version of the chart, or a constraint such as ^1.2; the latest if it is not given' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l devel -d 'Take development versions too, as --version \'>0.0.0-0\' does' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l dependency-update -d 'Fetch the dependencies that charts/ lacks, as Chart.lock or Chart.yaml says' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l offline -d 'Fetch nothing: take what was fetched before, and say what is missing' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l username -d 'Log in at the repository or registry with this name' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l password -d 'Password for --username; other users of the machine can read it, --password-stdin is better' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l password-stdin -d 'Read the password for --username from standard input' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l ca-file -d 'Trust the certificates in this PEM file beside the system\'s' -r -F
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l plain-http -d 'Speak plain HTTP to the registry' -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l registry-config -d 'File with logins at registries, as `helm registry login` writes it' -r -F
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l create-namespace -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l description -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l disable-openapi-validation -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l force -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l force-conflicts -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l force-replace -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s l -l labels -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l replace -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l rollback-on-failure -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l atomic -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l server-side -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l take-ownership -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l timeout -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l wait -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l wait-for-jobs -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l hide-notes -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l render-subchart-notes -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l skip-crds -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l debug -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l burst-limit -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l color -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l content-cache -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-apiserver -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-as-group -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-as-user -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-ca-file -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-context -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-insecure-skip-tls-verify -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-tls-server-name -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kube-token -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l kubeconfig -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l qps -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l repository-cache -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l repository-config -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l dry-run -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l validate -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l post-renderer -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l post-renderer-args -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l enable-dns -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l verify -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l keyring -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l insecure-skip-tls-verify -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l pass-credentials -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l cert-file -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l key-file -r
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from template" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from functions" -s o -l output -d 'How to print them' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from functions" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from functions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand chart; and __fish_seen_subcommand_from functions" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand component; and not __fish_seen_subcommand_from list ls" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand component; and not __fish_seen_subcommand_from list ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand component; and not __fish_seen_subcommand_from list ls" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand component; and not __fish_seen_subcommand_from list ls" -f -a "list" -d 'List the components whose images omk knows, and their versions'
complete -c omk -n "__fish_omk_using_subcommand component; and not __fish_seen_subcommand_from list ls" -f -a "ls" -d 'List the components whose images omk knows, and their versions'
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from list" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from list" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from list" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from ls" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from ls" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from ls" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand component; and __fish_seen_subcommand_from ls" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "discover" -d 'List the images that manifests and charts need, and where they are named'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "ls" -d 'List the images that manifests and charts need, and where they are named'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "copy" -d 'Copy an image from one registry to another'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "compare" -d 'Compare a bundle with what a cluster runs'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "pull" -d 'Fetch images into the image cache'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "list" -d 'List the images in the image cache'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "inspect" -d 'Say what the image cache knows of an image'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "remove" -d 'Take images out of the image cache'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "rm" -d 'Take images out of the image cache'
complete -c omk -n "__fish_omk_using_subcommand image; and not __fish_seen_subcommand_from discover ls copy compare pull list inspect remove rm verify" -f -a "verify" -d 'Hash all that images in the image cache are made of'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l image -d 'An image that is needed whatever the sources say' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l component -d 'Take the images of a component: its newest version, the newest of a line (cilium@1.18) or one (cilium@1.18.12)' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l min-confidence -d 'Leave out what is less sure than this: certain, strong, likely, possible' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l exclude -d 'Leave this image out, may be given more than once: a name without tag stands for all its tags, and * for any characters' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l without-rule -d 'Switch this kind of evidence off, may be given more than once: env, arg, config, chart-annotation …' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l release-name -d 'Name of the release that charts are rendered for [default: that of the chart]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l repo -d 'Chart repository (where its index.yaml is): SOURCES that are no paths here are names of charts in it' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l chart-version -d 'Version, or a constraint such as ^1.2, of the charts of --repo and of those of oci:// that name none' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l source-path -d 'Folder that stands in for a Git repository, an artifact or the charts of a repository: NAME is that of the Flux object, namespace/name, or the address' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l variable -d 'Value of a variable that a Flux object, Compose file or Zarf package leaves open' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s n -l namespace -d 'Namespace of the release' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l kube-version -d 'Version of Kubernetes that the chart is told' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s a -l api-versions -d 'API versions that the chart is told besides those of Kubernetes itself' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s f -l values -d 'Values file, - for standard input; may be given more than once, later ones win' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l set -d 'Value, such as image.tag=1.2,hosts={a,b}' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l set-string -d 'The same, but always text' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l set-json -d 'Value in JSON' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l set-file -d 'Value that is a file\'s content' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l set-literal -d 'Value that is taken as it stands' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l why -d 'Show every place that names this image, and nothing else: a name without tag stands for all its tags, the end of a name for the whole' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'
yaml\t'The same as YAML'
refs\t'Complete names, one a line'
csv\t'A line for each place'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l lock -d 'Ask the registries what each name stands for, and write that to this file as YAML: name to digest' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l platform -d 'A platform that each image of --lock must have; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l include-disabled -d 'Also take the images that charts can use and, with these values, do not; the same as --min-confidence possible'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l offline -d 'Fetch no charts, no dependencies of charts and, for a bundle, no images: take what was fetched before, and say what is missing'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l no-hooks -d 'Leave out hooks'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l skip-tests -d 'Leave out tests'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l is-upgrade -d 'Render as for an upgrade'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l skip-schema-validation -d 'Do not check values against the chart\'s values.schema.json'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l fail-on-latest -d 'End with exit code 7 if an image has the tag latest, written or not, and no digest'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -l fail-on-unpinned -d 'End with exit code 7 if an image has no digest'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from discover" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l image -d 'An image that is needed whatever the sources say' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l component -d 'Take the images of a component: its newest version, the newest of a line (cilium@1.18) or one (cilium@1.18.12)' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l catalogue -d 'Folder with more definitions of components' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l min-confidence -d 'Leave out what is less sure than this: certain, strong, likely, possible' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l exclude -d 'Leave this image out, may be given more than once: a name without tag stands for all its tags, and * for any characters' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l without-rule -d 'Switch this kind of evidence off, may be given more than once: env, arg, config, chart-annotation …' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l release-name -d 'Name of the release that charts are rendered for [default: that of the chart]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l repo -d 'Chart repository (where its index.yaml is): SOURCES that are no paths here are names of charts in it' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l chart-version -d 'Version, or a constraint such as ^1.2, of the charts of --repo and of those of oci:// that name none' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l source-path -d 'Folder that stands in for a Git repository, an artifact or the charts of a repository: NAME is that of the Flux object, namespace/name, or the address' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l variable -d 'Value of a variable that a Flux object, Compose file or Zarf package leaves open' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s n -l namespace -d 'Namespace of the release' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l kube-version -d 'Version of Kubernetes that the chart is told' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s a -l api-versions -d 'API versions that the chart is told besides those of Kubernetes itself' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s f -l values -d 'Values file, - for standard input; may be given more than once, later ones win' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l set -d 'Value, such as image.tag=1.2,hosts={a,b}' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l set-string -d 'The same, but always text' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l set-json -d 'Value in JSON' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l set-file -d 'Value that is a file\'s content' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l set-literal -d 'Value that is taken as it stands' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l why -d 'Show every place that names this image, and nothing else: a name without tag stands for all its tags, the end of a name for the whole' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'
yaml\t'The same as YAML'
refs\t'Complete names, one a line'
csv\t'A line for each place'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l lock -d 'Ask the registries what each name stands for, and write that to this file as YAML: name to digest' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l platform -d 'A platform that each image of --lock must have; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l include-disabled -d 'Also take the images that charts can use and, with these values, do not; the same as --min-confidence possible'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l offline -d 'Fetch no charts, no dependencies of charts and, for a bundle, no images: take what was fetched before, and say what is missing'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l no-hooks -d 'Leave out hooks'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l skip-tests -d 'Leave out tests'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l is-upgrade -d 'Render as for an upgrade'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l skip-schema-validation -d 'Do not check values against the chart\'s values.schema.json'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l fail-on-latest -d 'End with exit code 7 if an image has the tag latest, written or not, and no digest'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -l fail-on-unpinned -d 'End with exit code 7 if an image has no digest'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from ls" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l platform -d 'Take this platform, may be given more than once; `all` takes every one that the image has' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l map -d 'Give names that begin with FROM the beginning TO instead; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l parallel -d 'Blobs that are sent at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l chunk -d 'Bytes that are sent with one request, in MiB; this much memory is used for each of --parallel' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l with-referrers -d 'Also take what refers to the image: signatures, attestations, SBOMs'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l dry-run -d 'Ask what is there and print what would be sent'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l keep-digests -d 'Fail where a registry takes no index with platforms missing, instead of pushing an index of those that are there, which has another digest'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from copy" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -l running -d 'What the cluster runs, as kubectl prints it in JSON or YAML; - is standard input' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from compare" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l platform -d 'Take this platform of each image, may be given more than once; `all` takes every one that an image has' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l parallel -d 'Blobs that are fetched at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l plain-http -d 'Speak plain HTTP to this registry; may be given more than once' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l registry-host -d 'The registry that --username is for; the login is never sent to another one' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l username -d 'Log in to --registry-host with this name; the password comes from --password-stdin or the environment variable OMK_REGISTRY_PASSWORD' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l auth-file -d 'Read logins from this file, in the format of Docker\'s config.json [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l hosts-dir -d 'Mirrors and certificates as in containerd\'s config_path: folders named after registries, with hosts.toml; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l patience -d 'Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]' -r
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l pull-secret -d 'Read logins from the pull secrets among these Kubernetes manifests; may be given more than once' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l credential-provider-config -d 'Ask kubelet\'s credential providers, as this CredentialProviderConfig says' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l credential-provider-bin-dir -d 'Folder with the programs of --credential-provider-config' -r -F
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l pin -d 'Never give these images up: see `omk cache pin`'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l with-referrers -d 'Also take what refers to the images: signatures, attestations, SBOMs; one that is listed and lost is an error'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l password-stdin -d 'Read the password for --username from standard input'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -l foreign-layers -d 'Take layers that their publisher does not want redistributed (Windows\' base layers) instead of refusing the image'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from pull" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from list" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from list" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from inspect" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from inspect" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from inspect" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from remove" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from remove" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from remove" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from rm" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from rm" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from verify" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand image; and __fish_seen_subcommand_from verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand login" -s u -l username -d 'The user' -r
complete -c omk -n "__fish_omk_using_subcommand login" -l plain-http -d 'Speak plain HTTP to the registry: whoever is between can read the password. Alone it means HOST; what other commands are given (--plain-http HOST) is taken too' -r
complete -c omk -n "__fish_omk_using_subcommand login" -l registry-ca -d 'Trust the certificates in this PEM file beside the system\'s' -r -F
complete -c omk -n "__fish_omk_using_subcommand login" -l config -d 'Read omk\'s configuration from this file [default: ~/.config/omk/config.yaml, if it is there]' -r -F
complete -c omk -n "__fish_omk_using_subcommand login" -l auth-file -d 'Keep the login in this file [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand login" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand login" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand login" -l password-stdin -d 'Read the password or access token from standard input, else from the environment variable OMK_REGISTRY_PASSWORD'
complete -c omk -n "__fish_omk_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand login" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand logout" -l auth-file -d 'Keep the login in this file [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else ~/.docker/config.json]' -r -F
complete -c omk -n "__fish_omk_using_subcommand logout" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand logout" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand logout" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -f -a "list" -d 'List the nodes that would be used, and how they would be reached; connects to none'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -f -a "ls" -d 'List the nodes that would be used, and how they would be reached; connects to none'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -f -a "check" -d 'Connect to every node and say what it runs: platform, runtime, images, free disk; changes nothing'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -f -a "inventory" -d 'Write down what the nodes have, to be carried back for `omk bundle build --since`'
complete -c omk -n "__fish_omk_using_subcommand node; and not __fish_seen_subcommand_from list ls check inventory verify" -f -a "verify" -d 'Prove again that nodes have every image of a bundle or lock; changes nothing without --repair'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -l why -d 'Also say where each value comes from: the file and line, the option'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -l why -d 'Also say where each value comes from: the file and line, the option'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from ls" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from check" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -s o -l output -d 'The file to write' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from inventory" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l lock -d 'Verify the names and digests of a lock; it lists no blobs, so whether an image is complete is the runtime\'s own word' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l report -d 'Also write the report as a page (HTML): every node, image and check, with times and versions' -r -F
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l pin -d 'Keep kubelet\'s garbage collection away from every image (label io.cri-containerd.pinned, which containerd heeds from 1.7 on); a proof that changes nothing says which images are not pinned'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l deep -d 'Hash what the nodes store, with the least priority there: metadata alone shows no flipped bit'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -l repair -d 'Mend what is wrong: send what lacks or is damaged, name and (with --pin) pin images again'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand node; and __fish_seen_subcommand_from verify" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l base-name -d 'The repository of images that another tool named by a tag only, such as quay.io/acme/web' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l streams -d 'Blobs at the same time to one node: more than one pays on links with latency' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l bandwidth -d 'Send no more than this to all nodes together: 20MB/s, 2.5MiB/s, 200Mbit/s' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l node-bandwidth -d 'Send no more than this to any one node' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l report -d 'Also write the report as a page (HTML): every node, image and check, with times and versions' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -s o -l output -d 'How the plan or report is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l keep-runs -d 'Runs that can be undone on a node, the newest ones: what names pointed at before them is kept, which takes disk' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l background -d 'For nodes in use: commands there run with the least priority, one blob at a time is sent, one image at a time imported, and no more than 20 MB/s sent to a node unless a rate is given. What containerd does itself, such as unpacking, runs as it always does'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l fast-import -d 'Send layers as zstd, packed here once for all nodes: containerd unpacks them in less time. Digests stay what they are and images run; but the layers are not kept on the node: `ctr images check` calls such an image incomplete, and it cannot be exported or pushed from that node. Only for containerd; others get what they always get'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l pin -d 'Keep kubelet\'s garbage collection away from every image (label io.cri-containerd.pinned, which containerd heeds from 1.7 on); a proof that changes nothing says which images are not pinned'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l deep -d 'Hash what the nodes store, with the least priority there: metadata alone shows no flipped bit'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l dry-run -d 'Ask the nodes what they have and say what would be done; changes nothing'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l ignore-disk -d 'Go on although a disk seems too small, or so full that kubelet would remove images: what images unpack to is an estimate'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l atomic -d 'Put a node that does not become ready back as it was before this run'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -l prune -d 'When a node is ready, remove the images that earlier runs of omk added to it and that this bundle does not want; never what others put there, moved, pinned, or use in a container'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -a "rollback" -d 'Put nodes back as they were before a run: names and labels, and what was added is removed'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -a "status" -d 'Say where each node stands: its last run, what is half-done and how to go on, what waits in staging'
complete -c omk -n "__fish_omk_using_subcommand preheat; and not __fish_seen_subcommand_from rollback status history" -a "history" -d 'List the runs that nodes have on record'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l run -d 'The run, as its report and `omk preheat history` name it; the beginning or the end of the id will do where no other run has it' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l last -d 'The newest run that the nodes have on record; every node has to answer'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l dry-run -d 'Say what would be done; changes nothing'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from rollback" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from status" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l nodes -d 'The inventory: omk\'s own, Ansible\'s (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l node -d 'A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l limit -d 'Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l user -d 'Login name where the inventory names none' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l identity -d 'Private key file where the inventory names none' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l known-hosts -d 'Trust the host keys of this file instead of those that `ssh` trusts' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l host-keys -d 'What happens when no key is recorded for a host: refuse it, or record the key that it presents' -r -f -a "strict\t'Refuse them'
accept-new\t'Record the key in known_hosts; a key that changed is refused all the same'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l ssh-config -d 'Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l ssh -d 'Which SSH is used: omk\'s own, or this machine\'s `ssh` program, for Kerberos, FIDO keys and whatever else only it can do. It reads its configuration itself and is never asked for, nor told, a password or passphrase' -r -f -a "own\t'omk itself'
system\t'The `ssh` program of this machine'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l passphrase-file -d 'The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l password-file -d 'The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l sudo-password-file -d 'The first line of this file is for sudo where the inventory has no sudo_password' -r -F
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l runtime -d 'The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l namespace -d 'containerd\'s namespace; kubelet looks into no other' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l parallel -d 'Nodes at the same time' -r
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -s o -l output -d 'How the result is printed' -r -f -a "table\t'For people'
json\t'For programs; the schema only grows'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -l ask-sudo-password -d 'Ask once, on the terminal, for the password that sudo wants'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand preheat; and __fish_seen_subcommand_from history" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand demo" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand demo" -l keep -d 'Leave the folder with everything in it'
complete -c omk -n "__fish_omk_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand demo" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand completions" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand completions" -s V -l version -d 'Print version'
complete -c omk -n "__fish_omk_using_subcommand generate" -l progress -d 'How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
bar\t'Bars'
plain\t'Plain lines'
json\t'One JSON object a line'
none\t'Warnings only'"
complete -c omk -n "__fish_omk_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c omk -n "__fish_omk_using_subcommand generate" -s V -l version -d 'Print version'
