-- What is known of a torrent, whoever holds it. `k` is the first 8 bytes of its hash as a signed number, so that a
-- check reads one b-tree; `tail` is the rest of the 20 bytes and is always compared.
create table torrent(
  k integer primary key,
  tail blob not null,
  name text not null,
  size integer,                          -- bytes; null until metadata is known
  private integer not null default 0,
  complete integer not null default 0,   -- every piece is verified and written on our node
  updated integer not null,              -- unix seconds
  files blob                             -- encoded file list: a format byte, then JSON, plain or zstd
) strict;

-- Torrents whose first 8 bytes are another's. Read only while it is not empty.
create table torrent_collision(
  hash blob primary key,
  name text not null,
  size integer,
  private integer not null default 0,
  complete integer not null default 0,
  updated integer not null,
  files blob
) strict;

create table metainfo(
  hash blob primary key,
  data blob not null                     -- the .torrent
) strict;

-- What a node is to have, and what has become of it.
create table download(
  id integer primary key,
  hash blob not null unique,
  wanted integer not null default 1,     -- 0: remove it with its data, then drop the row
  revision integer not null,             -- grows over all rows with each change the node must see
  magnet text not null,
  status text not null default 'queued',
  message text not null default '',
  complete integer not null default 0,
  synced integer not null default 0,     -- its files were fsynced
  layout blob,                           -- msgpack: piece length and where the files lie
  used_at integer not null default 0     -- unix seconds
) strict;
create index download_revision on download(revision);

-- Numbers that only ever grow, also when the rows that had them are gone.
create table sequence(
  name text primary key,
  value integer not null
) strict;

-- One torrent as one account holds it.
create table torz(
  n integer primary key,                 -- grows with each add, so that a second's adds keep their order
  id text not null unique,
  account text not null,
  hash blob not null,
  k integer not null,                    -- of the hash, to reach `torrent`
  name text not null default '',         -- what the adder called it, until its metadata is known
  proven integer not null,               -- the account showed the metadata, or the swarm gave it
  added_at integer not null,             -- unix seconds
  unique(account, hash)
) strict;
create index torz_by_account on torz(account, added_at);
create index torz_by_hash on torz(hash);

-- How many each account holds: counting ten thousand rows for every page would cost more than the page.
create table account(
  name text primary key,
  held integer not null
) strict;
create trigger torz_held after insert on torz begin
  insert into account(name, held) values (new.account, 1) on conflict(name) do update set held = held + 1;
end;
create trigger torz_let_go after delete on torz begin
  update account set held = held - 1 where name = old.account;
end;

create table secret(
  name text primary key,
  value blob not null
) strict;

create table user(
  name text primary key,
  password_hash blob not null,
  added_at integer not null
) strict;
