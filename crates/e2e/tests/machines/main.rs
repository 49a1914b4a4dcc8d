fn main() -> anyhow::Result<()> {
    use gantry_e2e::fleet::{*, machine::*, images::*};
    let t=std::time::Instant::now();
    let folder = gantry_e2e::programs::target().join("machines");
    println!("{:?}", fitness::obstacle(&folder)?);
    let images = Images::prepare()?;
    println!("images {:?}", t.elapsed());
    let room = tempfile::Builder::new().prefix("run-").tempdir_in(&folder)?;
    let key = Key::make(room.path())?;
    let network = gantry_e2e::machines::Network::make()?;
    for (n, family) in [(11, Family::Debian), (12, Family::Enterprise)] {
        let t=std::time::Instant::now();
        let net = network.machine(room.path(), family.name(), n)?;
        let mut m = Machine::make(&Plan{name: family.name(), layers: &images.layers(family), disk: &room.path().join(format!("disk{n}")), hosts: &[], options: vec![]}, net, &key)?;
        m.boot()?;
        println!("boot {:?}", t.elapsed());
        println!("{}", m.run("cat /etc/os-release | head -2; uname -n; cat /proc/self/cgroup; systemctl --version | head -1; ls /sys/fs/cgroup; grep Cap /proc/self/status; df / | tail -1")?);
        m.reboot()?;
        println!("reboot {:?}", t.elapsed());
        m.cut_power()?;
        m.boot()?;
        println!("cut {:?}", t.elapsed());
    }
    Ok(())
}
