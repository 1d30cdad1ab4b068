# The variables are the image's; programs of this machine are found by the host's PATH.
root=$1 data=$2 user=$3
shift 3
PATH=$HOST_PATH
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$root$data" "$root$data"
mount -o remount,bind,ro "$root"
ip link set lo up
# A user namespace has nobody else to become, and forbids to set groups.
as=
[ "$user" = 0 ] || as="--userspec=$user:$user"
inside() { chroot $as "$root" "$@"; }
if touch "$root/probe" 2>/dev/null; then echo 'the root can be written'; exit 1; fi

# Not by the function: a signal must reach the gateway, not a shell around it.
chroot $as "$root" "$@" --admin-key-file "$data/admin.key" &
gateway=$!
for attempt in $(seq 100); do
    inside "$1" health && break
    [ "$attempt" -lt 100 ] || exit 1
    sleep 0.1
done
inside "$1" keys list --key-file "$data/admin.key"
inside "$1" backup "$data/backup.db"
kill -TERM "$gateway"
wait "$gateway"
[ -s "$root$data/tollgate.db" ]
