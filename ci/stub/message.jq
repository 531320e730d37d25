# jq -n -f message.jq RECORD: an array of what procd would have been told, in order. A service is
#   {"service": {"name": ..., "script": ..., "instances": {...}, "triggers": [...], "data": {...}}, "method": "set"}
# with instances as procd has them; a trigger is [CALL, ARGUMENT...]. Any other event is the recorded line itself.

def value: getpath(["out"] + .path);
def key($name): if value | type == "array" then value | length else $name end;
def put($name; $value): setpath(["out"] + .path + [key($name)]; $value);
def enter($name; $value): key($name) as $key | put($name; $value) | .path += [$key];
def leave: .path |= .[:-1];

def table: map(index("=") as $at | if $at then {(.[:$at]): .[$at + 1:]} else {(.): ""} end) | add // {};
def parameter($type):
  if [$type] | inside(["env", "data", "limits"]) then table
  elif [$type] | inside(["command", "netdev", "file", "respawn", "watch", "watchdog", "error"]) then .
  elif [$type] | inside(["nice", "term_timeout"]) then .[0] | tonumber
  elif [$type] | inside(["stdout", "stderr", "no_new_privs"]) then .[0] == "1"
  elif [$type] | inside(["pidfile", "user", "group", "seccomp", "capabilities", "facility", "vrf", "reload_signal"]) then .[0]
  else error("procd has no parameter \($type)") end;

reduce inputs as {$call, args: $a} ({done: [], out: {}, path: []};
  if $call == "procd_open_service" then
    .out = {name: $a[0], script: $a[1], instances: {}, triggers: []} | .path = ["instances"]
  elif $call == "procd_close_service" then
    if .path == [] then .done += [{service: .out, method: $a[0]}] else error("left open: \(.path)") end
  elif $call == "procd_open_instance" then
    enter($a[0] // "instance\(value | length + 1)"; {})
  elif $call == "procd_close_instance" then leave
  elif $call == "procd_set_param" then put($a[0]; $a[1:] | parameter($a[0]))
  elif $call == "procd_append_param" then
    put($a[0]; value[$a[0]] + ($a[1:] | parameter($a[0])))
  elif $call == "procd_add_jail" then
    put("jail"; {name: $a[0]} + ([$a[1:][] | {(.): true}] | add // {}) + {mount: {}})
  elif $call == "procd_add_jail_mount" or $call == "procd_add_jail_mount_rw" then
    (if $call == "procd_add_jail_mount" then "0" else "1" end) as $writable
    | reduce ($a[] | split(" ")[]) as $path (.; setpath(["out"] + .path + ["jail", "mount", $path]; $writable))
  elif $call == "procd_add_mdns" then
    put("data"; {mdns: {"\($a[0])_\($a[2])": ({service: "_\($a[0])._\($a[1]).local", port: ($a[2] | tonumber)}
      + if $a | length > 3 then {txt: $a[3:]} else {} end)}})
  elif $call == "procd_open_data" then enter("data"; {})
  elif $call == "json_open_triggers" then .path = ["triggers"]
  elif $call == "json_close_triggers" then .path = []
  elif $call == "procd_close_data" or $call == "json_close_object" or $call == "json_close_array" then leave
  elif $call == "json_add_object" then enter($a[0]; {})
  elif $call == "json_add_array" then enter($a[0]; [])
  elif $call == "json_add_string" then put($a[0]; $a[1])
  elif $call == "json_add_int" then put($a[0]; $a[1] | tonumber)
  elif $call == "json_add_boolean" then put($a[0]; $a[1] == "1")
  elif .path == ["triggers"] then put(""; [$call] + $a)
  else .done += [{$call, args: $a}] end)
| .done
