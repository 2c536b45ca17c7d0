/usr/sbin/irqbalance --foreground & P=$!
sleep 2; ls -l /run/irqbalance
cat > /tmp/a.pl <<'P'
use IO::Socket::UNIX; my $s=IO::Socket::UNIX->new(Type=>SOCK_STREAM,Peer=>$ARGV[0]) or die "no: $!"; $s->print($ARGV[1]); $s->flush; local $/; print "answer[".<$s>."]\n";
P
S=/run/irqbalance/irqbalance$P.sock
perl /tmp/a.pl $S setup
perl /tmp/a.pl $S "settings cpus 2-5,9"
for i in 1 2 3 4 5 6 7 8; do sleep 2; perl /tmp/a.pl $S setup; done
cat /proc/irq/*/smp_affinity_list | sort | uniq -c
perl /tmp/a.pl $S "settings cpus NULL"; sleep 12;  perl /tmp/a.pl $S setup
kill $P
