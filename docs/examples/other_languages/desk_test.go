package desk

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Without an SDK; openai-go finds the same two variables by itself.
func ask(t *testing.T, question string) string {
	body := `{"model": "gpt-5-mini", "messages": [{"role": "user", "content": "` + question + `"}]}`
	url := os.Getenv("OPENAI_BASE_URL") + "/chat/completions"
	request, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var completion struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(response.Body).Decode(&completion); err != nil {
		t.Fatal(err)
	}
	return completion.Choices[0].Message.Content
}

func TestAQuestionIsAnswered(t *testing.T) {
	if answer := ask(t, "When do you open?"); answer != "At nine." {
		t.Errorf("got %q", answer)
	}
}
