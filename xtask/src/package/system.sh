# In the booted system: the package is installed. What an operator does with it.
log() { journalctl -b -u tollgate --no-pager -o cat "$@"; }
trap '[ $? -eq 0 ] || log -n 30' EXIT
key=/etc/tollgate/admin.key
links() { tollgate links export --key-file "$key" "$@"; }

[ "$(stat -c %a "$key")" = 600 ]
systemctl enable --now tollgate.socket tollgate.service
tollgate health
pid=$(systemctl show tollgate -p MainPID --value)
echo "user $(stat -c %u "/proc/$pid"), $(grep CapEff "/proc/$pid/status")"
[ "$(stat -c %u "/proc/$pid")" != 0 ]
grep -q '^CapEff:.*0000000000000000' "/proc/$pid/status"
grep -q '^NoNewPrivs:.*1' "/proc/$pid/status"
tollgate keys list --key-file "$key" >/dev/null
# The credential is nobody else's: nothing to warn of.
! log | grep -q 'others can read'
[ "$(stat -L -c %a /var/lib/tollgate)" = 700 ]

# A change is in force when the reload returns; what is refused stays out, and the gateway stays.
sed -i 's/^#*redirect = .*/redirect = 307/' /etc/tollgate/tollgate.toml
systemctl reload tollgate
log | grep -q 'links.redirect: 302 → 307'
sed -i 's/^redirect = .*/redirect = 300/' /etc/tollgate/tollgate.toml
systemctl reload tollgate
log | grep -q 'the one before stays in force'
sed -i 's/^redirect = .*/redirect = 307/' /etc/tollgate/tollgate.toml

# The socket outlives the program: connections wait while it restarts. What was written is there afterwards.
printf '{"url":"https://example.com/","code":"kept"}\n' >/trial/links
tollgate links import --key-file "$key" /trial/links
before=$(links | grep -c '"kept"')
systemctl restart tollgate &
for attempt in $(seq 20); do tollgate keys list --key-file "$key" >/dev/null; done
wait $!
[ "$before" = 1 ] && [ "$(links | grep -c '"kept"')" = 1 ]
[ "$(systemctl show tollgate -p NRestarts --value)" = 0 ]

# An upgrade: the new program takes over, unless its settings do not suit it, or the machine's policy forbids it.
pid() { systemctl show tollgate -p MainPID --value; }
upgrade() { before=$(pid) && dpkg --install /trial/tollgate.deb && dpkg --audit; }
upgrade
[ "$(pid)" != "$before" ]
sed -i 's/^redirect = .*/redirect = 300/' /etc/tollgate/tollgate.toml
upgrade
[ "$(pid)" = "$before" ] && tollgate health
sed -i 's/^redirect = .*/redirect = 307/' /etc/tollgate/tollgate.toml
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
upgrade
rm /usr/sbin/policy-rc.d
[ "$(pid)" = "$before" ] && tollgate health

# Root restores what the gateway goes on with, as another user.
tollgate backup /trial/backup.db --data /var/lib/tollgate
systemctl stop tollgate.socket tollgate.service
tollgate restore /trial/backup.db --data /var/lib/tollgate --force
systemctl start tollgate.socket tollgate.service
[ "$(links | grep -c '"kept"')" = 1 ]

# It ends in order, and the socket starts it again.
systemctl stop tollgate.service
[ "$(systemctl show tollgate -p Result --value)" = success ]
tollgate health
systemctl is-active tollgate.service
systemctl stop tollgate.socket tollgate.service
echo 'all of it'
