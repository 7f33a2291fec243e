#!/bin/sh
# In the host's tree: makes this look like a machine, runs the command, and tells on the console how it ended.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
exec < /dev/null
hostname wireplug-vm 2> /dev/null
mkdir -p /run/lock /run/netns
# The rest is loaded by the kernel when it is first asked for.
for module in wireguard veth bridge tun sch_netem nf_tables nft_chain_nat nft_masq nft_ct nf_conntrack_netlink; do
    modprobe "$module" || echo "the kernel has no module $module"
done
ip link set lo up
echo "wireplug-vm: up after $(cut -d ' ' -f 1 /proc/uptime) s"
sh /run/command.sh
status=$?
echo
echo "wireplug-vm: down after $(cut -d ' ' -f 1 /proc/uptime) s"
echo "wireplug-vm: status $status"
# The console may still be writing: whoever reads the line above ends this machine. If nobody does, it ends itself.
sleep 5
/run/busybox reboot -f
