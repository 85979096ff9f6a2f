# Looks into the memory of another process.
package MrPrompt::Memory;

use strict;
use warnings;

use Exporter 'import';
our @EXPORT_OK = qw(can_look_into places_of);

# Whether this user may read the memory of that process.
sub can_look_into { my ($pid) = @_; return open(my $memory, '<:raw', "/proc/$pid/mem") ? 1 : 0 }

# places_of(TEXT, PID): the mappings in which the process has it, once for each time.
sub places_of
{
    my ($text, $pid) = @_;
    open my $maps, '<', "/proc/$pid/maps" or die "/proc/$pid/maps: $!";
    open my $memory, '<:raw', "/proc/$pid/mem" or die "/proc/$pid/mem: $!";
    my @places;
    while (my $line = <$maps>)
    {
        my ($from, $to, $name) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) rw\S* \S+ \S+ \S+ *(.*)$/ or next;
        no warnings 'portable';
        my ($at, $end, $tail) = (hex $from, hex $to, '');
        while ($at < $end)
        {
            sysseek $memory, $at, 0 or last;
            my $count = sysread $memory, my $bytes, $end - $at > 1 << 24 ? 1 << 24 : $end - $at;
            last unless $count;
            my $window = $tail . $bytes;
            my $base = $at - length $tail;
            my $found = -1;
            push @places, sprintf('%s at %x', $name || 'anonymous', $base + $found) while ($found = index $window, $text, $found + 1) >= 0;
            $tail = substr $window, -(length($text) - 1);
            $at += $count;
        }
    }
    return @places;
}

1;
