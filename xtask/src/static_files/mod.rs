//! `cargo xtask static-files`: nginx and daylily serve the same directory, and their responses are compared.

use std::path::Path;

use anyhow::{Result, bail};

mod differences;
mod measure;
mod requests;
mod servers;

use servers::Servers;

pub(crate) const USAGE: &str = "\
usage: cargo xtask static-files [--measure]

  --measure  print how much CPU time each takes for files of 1 KiB and 1 MiB, instead of comparing responses

Needs `nginx` on the path, or in the directory DAYLILY_NGINX_DIR (Debian, Ubuntu: the package nginx, which
`apt-get download nginx` and `dpkg -x` unpack without installing a service).

Ends with 1 when a response differs from nginx's in its status, its body or a field of the file, unless the difference is
in the list of intended ones, with its reason; and when an intended difference does not occur.
";

const DIR: &str = "DAYLILY_NGINX_DIR";

pub(crate) fn main(root: &Path, args: &[&str]) -> Result<()> {
    let measures = match args {
        [] => false,
        ["--measure"] => true,
        _ => bail!("unknown arguments: {}\n\n{USAGE}", args.join(" ")),
    };
    let nginx = crate::process::needed("nginx", DIR, "nginx")?;
    crate::cargo_build(root, &["--release"], &["daylily"])?;
    let servers = Servers::start(root, &nginx)?;
    if measures {
        return measure::run(&servers);
    }
    let mut faults = Vec::new();
    let mut occurred = vec![0_u32; differences::INTENDED.len()];
    let requests = requests::all();
    for request in &requests {
        let (ours, theirs) = (servers.daylily(request)?, servers.nginx(request)?);
        for difference in ours.differences(&theirs) {
            match differences::intended(request, &difference) {
                Some(number) => occurred.get_mut(number).into_iter().for_each(|count| *count += 1),
                None => faults.push(format!("{request}: {difference}")),
            }
        }
    }
    for (difference, count) in differences::INTENDED.iter().zip(occurred) {
        crate::say(&format!("{count:4} times: {}\n", difference.reason))?;
        if count == 0 {
            faults.push(format!("an intended difference does not occur: {}", difference.reason));
        }
    }
    crate::say(&format!("{} requests\n", requests.len()))?;
    match faults.as_slice() {
        [] => Ok(()),
        faults => bail!("{} faults:\n  {}", faults.len(), faults.join("\n  ")),
    }
}
