#!/bin/sh
# PID 1 of a target VM: people, data, sshd, the service. ENV and SERVICE come from /run/world/settings.
# ttyS0 is the console; ttyS1 is sshd's log, which only the host can read.
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
exec </dev/null >/dev/ttyS0 2>&1
. /run/world/settings

# people: no passwords; one key each; operator may write what the service owns, by its group
echo "$SERVICE:x:900:operator" >>/etc/group
echo "$SERVICE:x:900:900::/srv/$SERVICE:/usr/sbin/nologin" >>/etc/passwd
id=1001
for user in reader verifier operator; do
  echo "$user:x:$id:" >>/etc/group
  echo "$user:x:$id:$id::/tmp:/bin/sh" >>/etc/passwd
  echo "$user:*:19000:0:99999:7:::" >>/etc/shadow
  id=$((id+1))
done

# the disk was filled on the host, where nobody has the service's name
chown -R 900:900 "/srv/$SERVICE"
chmod -R u=rwX,g=rwX,o=rX "/srv/$SERVICE"
find "/srv/$SERVICE" -type d -exec chmod g+s {} +

keep() { while :; do "$@"; echo "target: $1 ended with $?"; sleep 1; done; }
mkdir -p /run/sshd
keep /usr/sbin/sshd -D -e -f /run/world/sshd_config >/dev/ttyS1 2>&1 &
keep setpriv --reuid=900 --regid=900 --clear-groups --no-new-privs /bin/sh /run/world/service.sh &
while :; do wait; sleep 1; done
