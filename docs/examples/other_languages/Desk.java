import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Without an SDK; openai-java's fromEnv() finds the same two variables by itself. */
public class Desk {
    static String ask(String question) throws Exception {
        var body = """
                {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "%s"}]}""";
        var request = HttpRequest.newBuilder()
                .uri(URI.create(System.getenv("OPENAI_BASE_URL") + "/chat/completions"))
                .header("Authorization", "Bearer " + System.getenv("OPENAI_API_KEY"))
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(body.formatted(question)))
                .build();
        return HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
    }

    public static void main(String[] arguments) throws Exception {
        var answer = ask("When do you open?");
        if (!answer.contains("At nine.")) {
            throw new AssertionError(answer);
        }
        System.out.println("1 passed");
    }
}
