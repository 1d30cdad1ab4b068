# In namespaces of its own: `$1` is a Debian system in a directory, `$2` its first unit. What systemd asks of a container manager:
# https://systemd.io/CONTAINER_INTERFACE
root=$1 unit=$2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
ip link set lo up
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
# Units get what is mounted later, such as their credentials.
mount --make-rshared /
exec env -i container=tollgate-trial PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system "--unit=$unit" --log-target=null
