#!/usr/bin/perl
# Makes an upgrade script: the hand-written part, then what the new install script creates and says that is not there yet.
# usage: build.pl A--B.sql mrprompt--A.sql mrprompt--B.sql, to standard output
use strict;
use warnings;

my ($by_hand, $old, $new) = @ARGV;

sub text
{
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    return join '', <$in>;
}

# The statements of a script, without the comments before them and the closing semicolon.
sub statements
{
    my ($file) = @_;
    my $text = text($file) =~ s/^\\echo .*\n//r;
    my $between = qr/(?:\s|--[^\n]*\n)*+/;
    my $part = qr/--[^\n]*\n | '[^']*' | "[^"]*" | (?<q>\$\w*\$).*?\k<q> | ^begin[ ]atomic\n.*?^end(?=;) | [^;'"\$\n-]+ | [^;]/xsm;
    my @found;
    push @found, $1 while $text =~ /\G$between((?:$part)++);/gc;
    $text =~ /\G$between\z/ or die "$file: a statement does not end\n";
    return @found;
}

# What a statement creates, such as "table mrprompt.users" or "policy own_rows on mrprompt.users"; nothing for what can be replaced.
sub created
{
    my ($statement) = @_;
    return "$1 $2" if $statement =~ /^create (schema|table|sequence) (\S+)/;
    return "index $3$1 on $2" if $statement =~ /^create (?:unique )?index (\w+) on ((\w+\.)\w+)/;
    return "$1 $2 on $3" if $statement =~ /^create (?:constraint )?(policy|trigger) (\w+) .*?\bon (\w+\.\w+)/s;
    die "build.pl does not know: $statement\n" if $statement =~ /^create (?!(?:function|procedure|view) )/;
    return ();
}

sub drop { return 'drop ' . $_[0] =~ s/^(index \S+) on .*/$1/r =~ s/^(\w+)/$1 if exists/r . ";\n" }

my %ran = map { $_ => 1 } statements($old);
my %there = map { my $statement = $_; map { $_ => $statement } created($statement) } keys %ran;
for my $statement (statements($by_hand))
{
    $there{$_} = undef for created($statement);
    next unless $statement =~ /^drop (table|view|sequence|index|policy|trigger) (?:if exists )?(.+)/s;
    my ($kind, $names) = ($1, $2);
    for my $name (split /,\s*/, $names)
    {
        delete @there{ grep { /^\Q$kind $name\E(?: on |$)/ || / on \Q$name\E$/ } keys %there };
    }
}

print qq(\\echo Use "ALTER EXTENSION mrprompt UPDATE" to load this file. \\quit\n), text($by_hand);
print "\n-- From here on: what the new install script brings.\n";
my @new = statements($new);
my %stays = map { $_ => 1 } map { created($_) } @new;
print map { drop($_) } grep { /^(?:index|policy|trigger) / && !$stays{$_} } sort keys %there;
for my $statement (@new)
{
    my ($name) = created($statement);
    if (defined $name && exists $there{$name})
    {
        # A table that changed is altered by hand; what holds no data is made anew.
        next unless $name =~ /^(?:index|policy|trigger) / && ($there{$name} // $statement) ne $statement;
        print drop($name);
    }
    elsif ($statement =~ /^insert into (\w+\.\w+_presets)\b/)
    {
        # Presets are the release's own; what admins wrote lies in other tables.
        print "delete from $1;\n";
    }
    elsif ($statement =~ /^(?:alter table|insert into|do .*\bcreate )/s)
    {
        next if $ran{$statement};
    }
    elsif ($statement !~ /^(?:create|comment on|grant|revoke|alter view|select|do) /)
    {
        die "build.pl does not know: $statement\n";
    }
    print $statement =~ s/^create (?=(?:function|procedure|view) )/create or replace /r, ";\n";
}
