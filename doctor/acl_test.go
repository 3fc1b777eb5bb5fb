package doctor

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhoGetsThroughADirectory(t *testing.T) {
	// What setfacl makes of a directory of that mode.
	with := func(mode uint32, mask uint16, named ...aclEntry) acl {
		plain := aclOfMode(mode)
		list := acl{plain[0]}
		for _, e := range named {
			if e.Tag == aclUser {
				list = append(list, e)
			}
		}
		list = append(list, plain[1])
		for _, e := range named {
			if e.Tag == aclGroup {
				list = append(list, e)
			}
		}
		return append(list, aclEntry{Tag: aclMask, Rights: mask}, plain[2])
	}
	user := func(id uint32, rights uint16) aclEntry { return aclEntry{aclUser, rights, id} }
	group := func(id uint32, rights uint16) aclEntry { return aclEntry{aclGroup, rights, id} }
	for _, test := range []struct {
		name         string
		list         acl
		owner, group uint32
		want         bool
	}{
		{"others may", aclOfMode(0o711), 0, 0, true},
		{"others may not", aclOfMode(0o750), 0, 0, false},
		{"its group may", aclOfMode(0o710), 0, 20, true},
		{"its group may not, though others may", aclOfMode(0o701), 0, 20, false},
		{"its owner may", aclOfMode(0o100), 10, 0, true},
		{"its owner may not", aclOfMode(0o011), 10, 20, false},
		{"the user is named", with(0o700, 0o1, user(10, 0o1)), 0, 0, true},
		{"another user is named", with(0o700, 0o1, user(11, 0o1)), 0, 0, false},
		{"the user is named, and the mask takes it away", with(0o700, 0o4, user(10, 0o5)), 0, 0, false},
		{"the user is named without the right, though others have it", with(0o701, 0o7, user(10, 0o4)), 0, 0, false},
		{"the owner is named, too", with(0o600, 0o7, user(10, 0o7)), 10, 0, false},
		{"its group is named", with(0o700, 0o1, group(30, 0o1)), 0, 0, true},
		{"its group is named, and the mask takes it away", with(0o701, 0o0, group(30, 0o1)), 0, 0, false},
		{"one of two groups may", with(0o700, 0o7, group(20, 0o4), group(30, 0o1)), 0, 0, true},
		{"the directory's group may, and the mask takes it away", with(0o711, 0o4), 0, 20, false},
		{"another group is named", with(0o701, 0o7, group(40, 0o7)), 0, 0, true},
	} {
		if got := test.list.lets(test.owner, test.group, 10, []int{20, 30}); got != test.want {
			t.Errorf("%s: a directory of list %v lets the user through: %t, want %t", test.name, test.list, got, test.want)
		}
	}
}

// encoded is a list as the kernel has it.
func encoded(list acl) []byte {
	content := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range list {
		content = binary.LittleEndian.AppendUint16(content, e.Tag)
		content = binary.LittleEndian.AppendUint16(content, e.Rights)
		content = binary.LittleEndian.AppendUint32(content, e.ID)
	}
	return content
}

func TestParseACL(t *testing.T) {
	// Of a directory of mode 700 after setfacl -m u:64055:x.
	const raw = "\x02\x00\x00\x00" +
		"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x01\x00\x37\xfa\x00\x00" + "\x04\x00\x00\x00\xff\xff\xff\xff" +
		"\x10\x00\x01\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	const none = 0xffffffff
	want := acl{{aclOwner, 7, none}, {aclUser, 1, 64055}, {aclOwningGroup, 0, none}, {aclMask, 1, none}, {aclOther, 0, none}}
	got, is := parseACL([]byte(raw))
	if diff := cmp.Diff(want, got); diff != "" || !is {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]string{"nothing": "", "no entries": raw[:4], "another version": "\x03" + raw[1:], "a part of an entry": raw[:len(raw)-1]} {
		if got, is := parseACL([]byte(bad)); is {
			t.Errorf("%s is taken for the list %v", name, got)
		}
	}
}
