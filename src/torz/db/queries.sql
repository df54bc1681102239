-- name: torrent_by_key
-- One torrent, if it is this one and not another with the same first 8 bytes.
select name, size, private, complete, files from torrent where k = :k and tail = :tail
union all
select name, size, private, complete, files from torrent_collision where hash = :hash

-- name: torrents_known
-- What is known of many torrents: one b-tree look-up each.
select k, tail, name, private, complete, files from torrent where k in (select value from carray(:keys))

-- name: collisions_exist
select exists(select 1 from torrent_collision)

-- name: collisions_known
select hash, name, private, complete, files from torrent_collision where hash in (select value from carray(:hashes))

-- name: put_torrent
-- Learn of a torrent; what is known is never replaced by less. Changes no row when the key is another torrent's.
insert into torrent(k, tail, name, size, private, updated, files)
values (:k, :tail, :name, :size, :private, :now, :files)
on conflict(k) do update set
  name = case when excluded.files is null then name else excluded.name end,
  size = coalesce(excluded.size, size),
  private = max(private, excluded.private),
  files = coalesce(files, excluded.files),
  updated = excluded.updated
where tail = excluded.tail

-- name: put_collision
insert into torrent_collision(hash, name, size, private, updated, files)
values (:hash, :name, :size, :private, :now, :files)
on conflict(hash) do update set
  name = case when excluded.files is null then name else excluded.name end,
  size = coalesce(excluded.size, size),
  private = max(private, excluded.private),
  files = coalesce(files, excluded.files),
  updated = excluded.updated

-- name: set_complete
update torrent set complete = :complete, updated = :now where k = :k and tail = :tail

-- name: set_collision_complete
update torrent_collision set complete = :complete, updated = :now where hash = :hash

-- name: set_files
update torrent set files = :files where k = :k and tail = :tail

-- name: set_collision_files
update torrent_collision set files = :files where hash = :hash

-- name: forget_torrent
delete from torrent where k = :k and tail = :tail

-- name: forget_collision
delete from torrent_collision where hash = :hash

-- name: put_metainfo
insert into metainfo(hash, data) values (:hash, :data) on conflict(hash) do nothing

-- name: metainfo
select data from metainfo where hash = :hash

-- name: forget_metainfo
delete from metainfo where hash = :hash

-- name: next_revision
insert into sequence(name, value) values ('revision', 1) on conflict(name) do update set value = value + 1
returning value

-- name: download
select wanted, magnet, complete from download where hash = :hash

-- name: want
insert into download(hash, revision, magnet, used_at) values (:hash, :revision, :magnet, :now)
on conflict(hash) do update set wanted = 1, revision = excluded.revision, magnet = excluded.magnet

-- name: unwant
update download set wanted = 0, revision = :revision where hash = :hash

-- name: desired
-- What changed for a node since it last looked.
select d.hash, d.revision, d.wanted, d.magnet, exists(select 1 from metainfo m where m.hash = d.hash),
  d.status, d.complete, d.synced, d.used_at
from download d where d.revision > :after order by d.revision limit :limit

-- name: lay_out
update download set layout = :layout where hash = :hash

-- name: layout
select layout from download where hash = :hash and wanted

-- name: set_status
update download set status = :status, message = :message, complete = :complete,
  synced = case when :complete then synced else 0 end
where hash = :hash

-- name: set_used
update download set used_at = :now where hash = :hash

-- name: set_synced
update download set synced = 1 where hash = :hash and complete

-- name: forget_download
delete from download where hash = :hash and revision = :revision and not wanted

-- name: hold
insert into torz(id, account, hash, k, name, proven, added_at)
values (:id, :account, :hash, :k, :name, :proven, :now)
on conflict(account, hash) do update set proven = max(proven, excluded.proven)
returning id

-- name: prove
-- The swarm gave the metadata to everybody who asked for it.
update torz set proven = 1 where hash = :hash

-- name: proven_exists
select exists(select 1 from torz where hash = :hash and proven)

-- name: held_exists
select exists(select 1 from torz where hash = :hash)

-- name: held
-- One torz of an account, with its files.
select z.id, z.hash, z.account,
  z.name, coalesce(t.name, c.name), coalesce(t.size, c.size), coalesce(t.private, c.private, 0), z.proven,
  z.added_at, d.status, d.message, d.complete, coalesce(t.files, c.files)
from torz z
left join torrent t on t.k = z.k and t.tail = substr(z.hash, 9)
left join torrent_collision c on c.hash = z.hash
left join download d on d.hash = z.hash
where z.id = :id and z.account = :account

-- name: held_state
-- Where one torz stands, whoever holds it: no more than serving a link has to know each time.
select z.id, z.hash, z.account,
  z.name, coalesce(t.name, c.name), coalesce(t.size, c.size), coalesce(t.private, c.private, 0), z.proven,
  z.added_at, d.status, d.message, d.complete, null
from torz z
left join torrent t on t.k = z.k and t.tail = substr(z.hash, 9)
left join torrent_collision c on c.hash = z.hash
left join download d on d.hash = z.hash
where z.id = :id

-- name: held_page
-- A slice of an account, newest first, without files.
select z.id, z.hash, z.account,
  z.name, coalesce(t.name, c.name), coalesce(t.size, c.size), coalesce(t.private, c.private, 0), z.proven,
  z.added_at, d.status, d.message, d.complete, null
from (
  select * from torz where account = :account order by added_at desc, n desc limit :limit offset :offset
) z
left join torrent t on t.k = z.k and t.tail = substr(z.hash, 9)
left join torrent_collision c on c.hash = z.hash
left join download d on d.hash = z.hash

-- name: held_count
select coalesce((select held from account where name = :account), 0)

-- name: held_private
-- Which of these an account may be told about although they are private.
select hash from torz where account = :account and proven and hash in (select value from carray(:hashes))

-- name: let_go
delete from torz where id = :id and account = :account returning hash

-- name: secret
select value from secret where name = :name

-- name: put_secret
insert into secret(name, value) values (:name, :value) on conflict(name) do nothing

-- name: users
select name, password_hash from user

-- name: put_user
insert into user(name, password_hash, added_at) values (:name, :password_hash, :now)
on conflict(name) do update set password_hash = excluded.password_hash
