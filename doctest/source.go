package doctest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Text is a text that the source hands to a function: the format of an error, for
// one.
type Text struct{ Place, Format string }

// Texts finds the texts that the packages of some directories hand to functions of
// a name, as the first of their arguments that is one, those before from left
// aside. Tests are left out.
func Texts(t *testing.T, function string, from int, dirs ...string) (all []Text) {
	t.Helper()
	files := token.NewFileSet()
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s has no source (error %v)", dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, is := n.(*ast.CallExpr)
				if !is || nameOf(call.Fun) != function {
					return true
				}
				for _, arg := range call.Args[min(from, len(call.Args)):] {
					if format, is := textOf(arg); is {
						place := files.Position(call.Pos())
						all = append(all, Text{fmt.Sprintf("%s:%d", filepath.ToSlash(place.Filename), place.Line), format})
						break
					}
				}
				return true
			})
		}
	}
	return all
}

// nameOf is the last part of a function's name.
func nameOf(function ast.Expr) string {
	switch f := function.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// textOf is the text of a literal, or of several that are added. What is added of
// another kind counts as a verb.
func textOf(e ast.Expr) (text string, is bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, isLeft := textOf(e.X)
		right, isRight := textOf(e.Y)
		if !isLeft {
			left = "%s"
		}
		if !isRight {
			right = "%s"
		}
		return left + right, isLeft || isRight
	}
	return "", false
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// Pattern matches what a format may become.
func (x Text) Pattern() *regexp.Regexp {
	var parts []string
	for part := range strings.SplitSeq(verb.ReplaceAllString(x.Format, "\x00"), "\x00") {
		parts = append(parts, regexp.QuoteMeta(strings.ReplaceAll(part, "%%", "%")))
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// Shown is a format as people read it: what is filled in is left open.
func (x Text) Shown() string {
	return strings.ReplaceAll(verb.ReplaceAllString(x.Format, "…"), "%%", "%")
}

// Words is how much of a format is not a verb, white space or punctuation.
func (x Text) Words() int {
	return len(strings.FieldsFunc(verb.ReplaceAllString(x.Format, ""), func(r rune) bool {
		return !slices.Contains([]rune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'"), r)
	}))
}
